"""A trained Video-ColBERT as an engine and on the command line: the same scores as the trainer's own."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from runners.cli.main import main
from tests.support.fork_server import start
from tests.support.tiny_retriever import tiny_base, tiny_config
from tests.support.tiny_training import tiny_output, tiny_tables, write_output
from tests.support.trainer_children import IMPORTED
from trainer.data.shards import Shards
from trainer.retriever.encoder import load_encoder
from trainer.retriever.inputs import clips_of
from trainer.retriever.losses import mean_max_sim
from trainer.run import train
from transforms.engines.embed import video_colbert
from transforms.engines.registry import find_engine
from transforms.protocols.engine import EngineError
from transforms.protocols.frames import Frame
from transforms.search.pack import open_pack, write_pack
from transforms.search.search import SearchOptions, search_many
from transforms.storage.trec import read_run

ROOT = Path(__file__).parents[2]
QUERIES = {f"q{i}": f"a {colour} ball" for i, colour in enumerate(("red", "green", "blue"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An output ``data`` and a run ``run`` of a few steps."""
    folder = tmp_path_factory.mktemp("trained")
    tiny_output(folder / "data")
    config = tiny_config(tiny_base(folder / "base"), "retriever.epochs=10", "retriever.validate_steps=20")
    train("retriever", config, str(folder / "data"), str(folder / "run"))
    return folder


@pytest.fixture
def engine(folder):
    video_colbert._content_hash.cache_clear()
    return find_engine("embed", {"engine": "video_colbert", "model": str(folder / "run"), "device": "cpu"})


@pytest.fixture(scope="module")
def clips(folder):
    return clips_of(Shards(str(folder / "data")), 4)


@pytest.fixture(scope="module")
def trainers_own(folder, clips):
    """The score of every query and video as training computes it, several videos in one pass."""
    encoder = load_encoder(folder / "run", "cpu")
    model, preparation = encoder._model, encoder._preparation
    video_ids = sorted(clips)
    pixels = preparation.pixels([frame for video_id in video_ids for frame in clips[video_id].frames])
    counts = torch.tensor([len(clips[video_id].frames) for video_id in video_ids])
    with torch.inference_mode():
        asked = model.queries(preparation.ids(list(QUERIES.values())))
        levels = model.videos(pixels, counts)
        scores = sum(mean_max_sim(asked, level, mask) for level, mask in zip(levels, model.masks(counts), strict=True))
    return {q: dict(zip(video_ids, row.tolist(), strict=True)) for q, row in zip(QUERIES, scores, strict=True)}


def frames_of(clip):
    return [Frame(time, image) for time, image in zip(clip.times_s, clip.frames, strict=True)]


def test_the_engine_embeds_through_the_protocol_and_scores_as_the_trainer(engine, clips, trainers_own):
    embedder = engine.load()
    videos = {video_id: embedder.embed_frames(frames_of(clips[video_id])) for video_id in clips}

    for query_id, text in QUERIES.items():
        asked = embedder.embed_query(text)
        assert asked.levels == (8,)  # the padding is kept
        for video_id, video in videos.items():
            assert video.levels == (4, 6)
            frames, mixed = np.split(video.vectors, [4])
            score = sum((asked.vectors @ level.T).max(1).mean() for level in (frames, mixed))
            assert score == pytest.approx(trainers_own[query_id][video_id], abs=1e-5)


def test_a_pack_of_the_engines_vectors_is_searched_in_the_trainers_order(engine, clips, trainers_own, tmp_path):
    embedder = engine.load()
    path = str(tmp_path / "pack")
    write_pack(path, ((video_id, embedder.embed_frames(frames_of(clips[video_id]))) for video_id in sorted(clips)))

    found = search_many(open_pack(path), [embedder.embed_query(t) for t in QUERIES.values()], 10, SearchOptions())

    for query_id, result in zip(QUERIES, found, strict=True):
        assert_same_order(result.candidates, trainers_own[query_id])


def assert_same_order(candidates, scores):
    """Codes of eight bits move a score by a thousandth or two: what is nearer than that may change places."""
    assert {c.video_id for c in candidates} == scores.keys()
    for candidate in candidates:
        assert candidate.score == pytest.approx(scores[candidate.video_id], abs=4e-3)
    ranked = [scores[candidate.video_id] for candidate in candidates]
    assert all(later <= earlier + 8e-3 for earlier, later in pairwise(ranked))


def test_a_vector_depends_on_its_own_item_alone(engine, clips):
    embedder = engine.load()
    first = embedder.embed_frames(frames_of(clips["v0"])).vectors
    embedder.embed_frames(frames_of(clips["v1"]))
    embedder.embed_query("a blue ball")

    assert (embedder.embed_frames(frames_of(clips["v0"])).vectors == first).all()


def test_of_more_frames_than_the_model_takes_those_evenly_spread_are_seen(engine):
    many = [Frame(i / 2, np.full((32, 32, 3), 20 * i, np.uint8)) for i in range(8)]

    embedder = engine.load()

    assert embedder.embed_frames(many).levels == (4, 6)
    expected = embedder.embed_frames([many[i] for i in (1, 3, 5, 7)])
    assert (embedder.embed_frames(many).vectors == expected.vectors).all()


def test_stamps_follow_the_models_content_and_not_its_place(engine, folder, tmp_path):
    shutil.copytree(folder / "run" / "model", tmp_path / "moved")
    shutil.copytree(folder / "run" / "model", tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    save_file(weights | {"bias": weights["bias"] + 1}, tmp_path / "other" / "model.safetensors")
    moved, other = (video_colbert.VideoColbert(model=str(tmp_path / name)) for name in ("moved", "other"))

    for stamp in ("stamp", "query_stamp", "document_stamp"):
        assert getattr(moved, stamp)() == getattr(engine, stamp)()
        assert getattr(other, stamp)() != getattr(engine, stamp)()
    assert engine.query_stamp() != engine.document_stamp()


def test_a_folder_without_a_model_is_refused_before_any_work(tmp_path):
    engine = video_colbert.VideoColbert(model=str(tmp_path))

    for act in (engine.check, engine.load, engine.stamp):
        with pytest.raises(EngineError, match=r"engine 'video_colbert': .* holds no Video-ColBERT"):
            act()
    with pytest.raises(TypeError, match="no text"):
        video_colbert.VideoColbertEmbedder(None).embed_text("words")


def test_retrieve_writes_the_run_of_the_trainers_scores(folder, trainers_own, tmp_path, capsys):
    queries = tmp_path / "queries.tsv"
    queries.write_text("".join(f"{query_id}\t{text}\n" for query_id, text in QUERIES.items()))
    where = ["--data", str(folder / "data"), "--model", str(folder / "run")]

    assert main(["retrieve", *where, "--queries", str(queries), "--out", str(tmp_path / "run.trec")]) == 0
    assert main(["embed", *where, "--out", str(tmp_path / "pack")]) == 0
    packed = ["--pack", str(tmp_path / "pack"), "--depth", "3", "--out", str(tmp_path / "short.trec")]
    assert main(["retrieve", *where, "--queries", str(queries), *packed]) == 0

    found, short = read_run(str(tmp_path / "run.trec")), read_run(str(tmp_path / "short.trec"))
    for query_id in QUERIES:
        assert_same_order(found[query_id], trainers_own[query_id])
        assert short[query_id] == found[query_id][:3]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / name) for name in ("run.trec", "pack", "short.trec")]


def test_retrieve_asks_the_validation_queries_unless_told_otherwise(folder, tmp_path):
    where = ["--data", str(folder / "data"), "--model", str(folder / "run")]

    main(["retrieve", *where, "--out", str(tmp_path / "run.trec")])

    assert read_run(str(tmp_path / "run.trec")).keys() == {f"q{i}" for i in range(8)}


def test_embedding_twice_gives_the_same_bytes_and_says_what_has_no_frames(folder, tmp_path, capsys):
    rows = tiny_tables()
    rows["videos"]["part"][0] |= {"frames": [], "frame_times_s": []}
    data = write_output(tmp_path / "data", rows)

    for name in ("a", "b"):
        main(["embed", "--data", str(data), "--model", str(folder / "run"), "--out", str(tmp_path / name)])

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert open_pack(str(tmp_path / "a")).ids == tuple(f"v{i}" for i in range(1, 8))
    assert "1 videos have no frames, and are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("retrieve --pack other.pack --out x", "other.pack is of another model than"),
        ("retrieve --pack data/manifest.json --out x", "data/manifest.json is no pack"),
        ("retrieve --depth 0 --out x", "--depth must be at least 1, got 0"),
        ("retrieve --queries none.tsv --out x", "none.tsv: no such file"),
        ("embed --out s3://bucket/x", "--out must be a local file, got s3://bucket/x"),
        ("embed --model base --out x", "base holds no Video-ColBERT"),
        ("embed --data base --out x", "base is not a finished hardquery output"),
    ],
)
def test_the_command_names_the_fix_in_one_line(command, says, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    write_pack("other.pack", [("v", load_embedding())], space="another")
    name, *rest = command.split()

    code = main([name, "--data", "data", "--model", "run", *rest])

    assert code == 2
    assert says in capsys.readouterr().err
    assert not Path("x").exists()


def load_embedding():
    from transforms.protocols.embed import Embedding

    return Embedding.of(np.eye(3, 32), (1, 2))


def test_neither_command_imports_beam_nor_a_stamp_torch(folder, tmp_path):
    code = """
import sys
from transforms.engines.registry import find_engine
find_engine("embed", {"engine": "video_colbert", "model": "run"}).document_stamp()
print("torch" in sys.modules)
"""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    stamped = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    started = start(IMPORTED, embed_and_retrieve, folder, tmp_path)
    started.join()

    assert (stamped.returncode, stamped.stdout) == (0, "False\n"), stamped.stderr
    assert started.exitcode == 0
    assert json.loads((tmp_path / "told").read_text()) == {"codes": [0, 0], "torch": True, "apache_beam": False}


def embed_and_retrieve(folder, out):
    """In a process that has imported the trainer: both commands, and what was imported after them."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    where = ["--data", f"{folder}/data", "--model", f"{folder}/run", "--device", "cpu"]
    codes = [
        main(["embed", *where, "--out", f"{out}/p"]),
        main(["retrieve", *where, "--pack", f"{out}/p", "--out", f"{out}/r"]),
    ]
    told = {name: name in sys.modules for name in ("torch", "apache_beam")}
    (out / "told").write_text(json.dumps({"codes": codes, **told}))
