"""Reranking a run with a trained model, and exporting the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from runners.cli.main import main
from schemas.query import Candidate
from tests.support.tiny_training import tiny_config, tiny_model, tiny_output
from trainer import export
from trainer.data.shards import Shards
from trainer.export import ExportError, export_model
from trainer.model.models import load_model, load_processor
from trainer.model.score import pair_scores
from trainer.ranking import RankingStage
from trainer.rerank import Reranker, RerankError, load_reranker, rerank
from trainer.run import train
from trainer.stage import training_arguments
from transforms.storage.trec import queries_lines, read_run, run_lines, write_lines

QUERIES = {f"q{number}": f"a {colour} ball" for number, colour in enumerate(("red", "green", "blue"))}
VIDEOS = [f"v{number}" for number in range(8)]
RUN = {
    query_id: [Candidate(video_id, rank, -float(rank)) for rank, video_id in enumerate(VIDEOS, start=1)]
    for query_id in QUERIES
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "out"
    folder.mkdir()
    return tiny_output(folder)


@pytest.fixture(scope="module", params=["full", "lora"])
def run_folder(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    lora = "lora=null" if request.param == "full" else "lora={rank: 4, alpha: 8, dropout: 0.0}"
    config = tiny_config(tiny_model(folder / "base"), lora, "ranking.epochs=1", "ranking.micro_batch=4")
    train("ranking", config, str(data), str(folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def reranker(run_folder: Path, data: Path) -> Reranker:
    return load_reranker(run_folder, str(data), "cpu")


def test_candidates_are_ordered_by_the_model_and_the_rest_follows(reranker: Reranker, tmp_path: Path) -> None:
    reranked = rerank(reranker, RUN, QUERIES, tmp_path / "partial", depth=5)
    for query_id, candidates in reranked.items():
        assert {c.video_id for c in candidates[:5]} == set(VIDEOS[:5])
        assert [c.video_id for c in candidates[5:]] == VIDEOS[5:]
        scores = [c.score for c in candidates]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(reranker.scores(candidates[0].video_id, [QUERIES[query_id]])[0], abs=1e-5)


def test_queries_in_one_pass_score_as_in_many(reranker: Reranker, tmp_path: Path) -> None:
    many = rerank(reranker, RUN, QUERIES, tmp_path / "many", at_once=1)
    one = rerank(reranker, RUN, QUERIES, tmp_path / "one", at_once=16)
    for query_id in QUERIES:
        assert [c.video_id for c in many[query_id]] == [c.video_id for c in one[query_id]]
        assert [c.score for c in many[query_id]] == pytest.approx([c.score for c in one[query_id]], abs=1e-5)


def test_a_pair_is_shown_to_the_model_as_it_was_in_training(data: Path, tmp_path: Path) -> None:
    small = ["ranking.frames=2", f"max_pixels={16 * 16}"]  # less than the shards hold
    config = tiny_config(tiny_model(tmp_path / "base"), *small, "ranking.epochs=1", "ranking.micro_batch=4")
    stage = RankingStage(config, Shards(str(data)), load_processor(config))
    run = train("ranking", config, str(data), str(tmp_path / "run"))
    arguments = training_arguments(config, config.ranking, tmp_path, remote=False)
    trainer = stage.trainer(model=load_model(config, tmp_path), arguments=arguments, metrics=run.metrics)
    group = trainer.train_dataset[0]
    reranker = load_reranker(run.root, str(data), "cpu")

    trained_on = trainer.data_collator([group])
    query, videos = group.example.query, group.example.video_ids
    shown = reranker.prompt.for_scoring([reranker.clips[video] for video in videos], [query] * len(videos))

    assert trained_on["video_grid_thw"].tolist() == [[1, 2, 2]] * 3
    assert all(torch.equal(value, trained_on[name]) for name, value in shown.items())


def test_a_stopped_call_goes_on_where_it_was(reranker: Reranker, tmp_path: Path) -> None:
    expected = rerank(reranker, RUN, QUERIES, tmp_path / "whole")
    partial = tmp_path / "partial"
    seen: list[int] = []

    def stop(pairs: int) -> None:
        seen.append(pairs)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerank(reranker, RUN, QUERIES, partial, told=stop)
    partial.write_bytes(partial.read_bytes()[:-7])  # kill -9 in the middle of the last line
    asked: list[str] = []
    counting = Spy(reranker, asked)
    assert rerank(counting, RUN, QUERIES, partial) == expected
    assert asked == list(counting.clips.in_order(VIDEOS))[2:]


@pytest.mark.parametrize("depth", [2, 3])
def test_a_call_of_another_depth_or_run_takes_from_a_stopped_one_what_it_wants_and_no_more(
    reranker: Reranker, tmp_path: Path, depth: int
) -> None:
    run = {query_id: candidates[::-1] for query_id, candidates in RUN.items()}
    expected = [rerank(reranker, wanted, QUERIES, tmp_path / "whole", depth=depth) for wanted in (RUN, run)]
    partial = tmp_path / "partial"
    rerank(reranker, RUN, QUERIES, partial, depth=100)  # as if it had been stopped right at its end
    asked: list[str] = []

    assert [rerank(Spy(reranker, asked), wanted, QUERIES, partial, depth=depth) for wanted in (RUN, run)] == expected
    assert not asked


class Spy(Reranker):
    """A reranker that takes down which videos it scores."""

    def __init__(self, reranker: Reranker, asked: list[str]) -> None:
        super().__init__(**{name: getattr(reranker, name) for name in reranker.__dataclass_fields__})
        object.__setattr__(self, "asked", asked)

    def scores(self, video_id: str, queries: object) -> list[float]:
        self.asked.append(video_id)
        return super().scores(video_id, queries)


def test_scores_of_another_model_are_not_mixed_in(reranker: Reranker, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    partial.write_text(json.dumps({"model": "other", "queries": "x"}) + "\n")
    with pytest.raises(RerankError, match="another model"):
        rerank(reranker, RUN, QUERIES, partial)


def test_the_weights_and_the_frames_decide_whose_scores_they_are(run_folder: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    other_frames = tmp_path / "data" / "manifest.json"
    other_frames.write_text(other_frames.read_text() + "\n")

    def identity(data: Path) -> str:
        return load_reranker(run_folder, str(data), "cpu").identity

    (weights,) = (run_folder / "model").glob("*.safetensors")
    before, trained = identity(data), weights.read_bytes()
    assert identity(tmp_path / "data") != before
    try:
        weights.write_bytes(trained[:-1] + bytes([trained[-1] ^ 1]))  # trained again, to weights of the same size
        assert identity(data) != before
    finally:
        weights.write_bytes(trained)
    assert identity(data) == before


def test_a_score_that_is_no_number_is_refused(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.rerank.shared_scores", lambda *_: torch.tensor([1.0, float("nan")]))
    with pytest.raises(RerankError, match="scores of video 'v0' are no numbers"):
        reranker.scores("v0", ["a", "b"])


def test_a_query_without_a_text_is_named(reranker: Reranker, tmp_path: Path) -> None:
    with pytest.raises(RerankError, match="'q1'"):
        rerank(reranker, RUN, {"q0": "a", "q2": "b"}, tmp_path / "partial")


def test_videos_without_frames_are_named_or_keep_their_place_behind_the_others(
    reranker: Reranker, tmp_path: Path
) -> None:
    run = {"q0": [Candidate("gone", 1, 9.0), *(Candidate(c.video_id, c.rank + 1, c.score) for c in RUN["q0"])]}
    with pytest.raises(RerankError, match="'gone'"):
        rerank(reranker, run, QUERIES, tmp_path / "partial")
    allowed = rerank(reranker, run, QUERIES, tmp_path / "partial", allowed=1)
    assert allowed["q0"][-1].video_id == "gone"


def test_the_command_writes_a_run_and_leaves_nothing_beside_it(
    run_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(str(tmp_path / "run.trec"), run_lines(RUN, "first"))
    write_lines(str(tmp_path / "queries.tsv"), queries_lines(QUERIES))
    out = tmp_path / "reranked.trec"
    given = f"rerank --model {run_folder} --data {data} --run {tmp_path}/run.trec --queries {tmp_path}/queries.tsv"
    assert main([*given.split(), "--out", str(out), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    assert {query_id: len(candidates) for query_id, candidates in read_run(str(out)).items()} == dict.fromkeys(RUN, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queries.tsv", "reranked.trec", "run.trec"]


def test_a_folder_without_a_model_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(str(tmp_path / "run.trec"), run_lines(RUN, "first"))
    write_lines(str(tmp_path / "queries.tsv"), queries_lines(QUERIES))
    given = (
        f"rerank --model {tmp_path} --data {data} --run {tmp_path}/run.trec --queries {tmp_path}/queries.tsv --out x"
    )
    assert main(given.split()) == 2
    assert "holds no config.yaml" in capsys.readouterr().err


def test_a_run_cannot_be_written_to_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    given = "rerank --model m --data d --run r --queries q --out s3://bucket/reranked.trec"
    assert main(given.split()) == 2
    assert "--out must be a local file" in capsys.readouterr().err


# Export


def test_an_exported_model_scores_like_the_trained_one(
    run_folder: Path, reranker: Reranker, data: Path, tmp_path: Path
) -> None:
    folder = export_model(run_folder, tmp_path / "exported")
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    AutoProcessor.from_pretrained(folder)
    clip = reranker.clips["v0"]
    inputs = reranker.prompt.for_scoring([clip] * 3, list(QUERIES.values()))
    with torch.inference_mode():
        theirs = pair_scores(plain, inputs, reranker.answers)
    ours = reranker.scores("v0", list(QUERIES.values()))
    assert theirs.tolist() == pytest.approx(ours, abs=1e-4)
    again = load_reranker(folder, str(data), "cpu")
    assert again.scores("v0", list(QUERIES.values())) == pytest.approx(ours, abs=1e-4)


def test_an_export_keeps_the_base_model_s_tokenizer_files_and_says_what_it_was_trained_on(
    run_folder: Path, data: Path, tmp_path: Path
) -> None:
    folder = export_model(run_folder, tmp_path / "exported")
    base = Path(json.loads((run_folder / "run.json").read_text())["model"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes()
    assert not list(folder.glob("adapter*"))
    card = (folder / "README.md").read_text()
    manifest = json.loads((run_folder / "run.json").read_text())["manifest_sha256"]
    assert manifest in card
    assert "validation_ndcg_10" in card


def test_an_export_touches_nothing_that_lies_beside_it_and_leaves_nothing_where_it_fails(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exported.tmp").mkdir()
    (tmp_path / "exported.tmp" / "mine").write_text("precious")
    with monkeypatch.context() as patch:
        patch.setattr(export, "copy_processor", no_room)
        with pytest.raises(OSError, match="no room"):
            export_model(run_folder, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["exported.tmp"]

    export_model(run_folder, tmp_path / "exported")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported", "exported.tmp"]
    assert (tmp_path / "exported.tmp" / "mine").read_text() == "precious"


def no_room(*_: object) -> None:
    raise OSError("no room")


@pytest.fixture(scope="module")
def both_stages(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model at ``base``, and a run of each stage that goes on from it by the name of the stage."""
    folder = tmp_path_factory.mktemp("stages")
    first = tiny_config(tiny_model(folder / "base"), "perception.epochs=1", "perception.micro_batch=4")
    train("perception", first, str(data), str(folder / "perception"))
    second = tiny_config(folder / "perception", "ranking.epochs=1", "ranking.micro_batch=4")
    train("ranking", second, str(data), str(folder / "ranking"))
    return folder


@pytest.mark.parametrize("stage", ["perception", "ranking"])
def test_a_card_names_the_model_that_the_first_stage_began_with(stage: str, both_stages: Path, tmp_path: Path) -> None:
    card = (export_model(both_stages / stage, tmp_path / "exported") / "README.md").read_text()
    assert f"base_model: {both_stages / 'base'}\n" in card
    assert ("score of a video and a query" in card) == (stage == "ranking")
    assert ("{caption}" in card) == (stage == "perception")


def test_a_run_that_is_not_finished_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a finished run"):
        export_model(tmp_path, tmp_path / "to")


def test_the_command_exports_and_says_where(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export-model", str(run_folder), "--to", str(tmp_path / "exported")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "exported")
    assert main(["export-model", str(run_folder), "--to", str(tmp_path / "exported")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_an_export_overwrites_nothing(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ExportError, match="not empty"):
        export_model(run_folder, tmp_path / "mine")
