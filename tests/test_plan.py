"""``hardquery plan``: what it foretells is what the next run does."""

import io
import json
import shutil
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from make_clips import make_clip
from rich.console import Console

from pipeline.config import load_recipe
from pipeline.outputs.manifest import read_manifest
from pipeline.planning.changes import not_held
from pipeline.planning.forecast import Flow, calls_to_follow
from pipeline.planning.plan import Plan
from pipeline.planning.rate import Rate
from pipeline.planning.step import Reason, step_plan
from prompts.template import Template, load_template
from runners.cli.main import main
from runners.cli.runs.plan import plan_table, print_reasons
from schemas.usage import Usage
from schemas.video import EngineStamp, ManifestEntry
from tests.scripted_server import Asked, Reply, ScriptedServer
from transforms.engines.pyav import PyAv
from transforms.extract.decode import Decoding, Limits, decode_video
from transforms.extract.headers import Headers, probe
from transforms.journal.budget import Cost, Deferred
from transforms.journal.journal import Journal
from transforms.journal.record import Key, RecordedFailure
from transforms.mine import search_vectors
from transforms.protocols.frames import FramePolicy
from transforms.protocols.teacher import Ladder, TeacherFailed, TeacherReply
from transforms.storage.cache import Cache

CLIPS = ("launch_ostara_1", "launch_ostara_2", "launch_kestrel_1")
FAST = (
    "extract.asr=null extract.ocr=null extract.frames.max_frames=2 emit.frames=null emit.validation_fraction=0 "
    "synthesize.variants=[caption,metadata]"
).split()
WHISPER = EngineStamp("whisper", "20250625", "large-v2", "9f3a" * 4)


def command(name: str, folder: Path, *settings: str) -> list[str]:
    given = ["--input", str(folder / "list.jsonl"), "--output", str(folder / "out"), "--workers", "1"]
    return [name, "demo", *given, *(f"--set={setting}" for setting in (*FAST, *settings))]


def run(folder: Path, *settings: str, options: tuple[str, ...] = (), expect: int = 0) -> dict[str, int]:
    """Run, and return by step the calls that were really made."""
    assert main([*command("run", folder, *settings), *options]) == expect
    work = read_manifest(str(folder / "out")).work
    return {step: counts.get("run", 0) + counts.get("failed", 0) for step, counts in work.items() if step != "media"}


@pytest.fixture
def plan(capsys):
    def planned(folder: Path, *settings: str) -> dict:
        capsys.readouterr()
        assert main([*command("plan", folder, *settings), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        return found | {"steps": {step["step"]: step for step in found["steps"]}}

    return planned


def to_run(found: dict) -> dict[str, int]:
    return {name: step["to_run"] for name, step in found["steps"].items()}


def reasons(found: dict, step: str) -> dict[str, int]:
    return {reason["why"]: reason["count"] for reason in found["steps"][step]["reasons"]}


def write_list(folder: Path, clips: list[Path]) -> None:
    rows = [{"uri": str(clip), "title": f"Rocket number {n} at {clip.stem}"} for n, clip in enumerate(clips)]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def finished(samples, tmp_path_factory) -> Path:
    """A folder with a list of clips, a finished output of them, and the cache of that run."""
    folder = tmp_path_factory.mktemp("finished")
    write_list(folder, [samples / "videos" / f"{clip}.mp4" for clip in CLIPS])
    run(folder)
    return folder


NOTHING = dict.fromkeys(("decode", "caption", "frame_hashes", "write", "embed_video", "embed_query", "judge"), 0)


@pytest.fixture
def done(finished, tmp_path) -> Path:
    """A copy of ``finished``, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "done"))


def test_a_plan_foretells_the_judge_calls_of_a_new_prompt_and_what_a_budget_leaves(done, plan):
    given = load_template("judge")
    (done / "judge.txt").write_text(given.source.replace("You judge", "You decide"))
    changed = f"judge.prompt={done / 'judge.txt'}"

    before = plan(done, changed)
    due = before["steps"]["judge"]["to_run"]
    budgeted = run(done, changed, options=("--max-calls", "3"), expect=4)
    between = plan(done, changed)
    continued = run(done, changed)

    assert due > 3
    assert to_run(before) == {**NOTHING, "judge": due}
    assert budgeted == {**NOTHING, "judge": 3}
    assert to_run(between) == continued == {**NOTHING, "judge": due - 3}
    assert all(step["exact"] for step in (*before["steps"].values(), *between["steps"].values()))
    new = Template("judge", (done / "judge.txt").read_text()).version
    reason = f"prompt {given.version[:4]} -> {new[:4]}"
    assert (reasons(before, "judge"), reasons(between, "judge")) == ({reason: due}, {reason: due - 3})


def test_a_plan_foretells_what_other_weights_of_a_field_or_a_lost_pack_leave_to_the_judge(done, plan):
    next(done.glob("**/packs/*/*")).unlink()
    same, weights = plan(done), "mine.first_stages.dense.fields={caption: 0, asr: 0, ocr: 0, metadata: 1}"
    before = plan(done, weights)

    nothing = dict.fromkeys(to_run(same), 0)
    assert to_run(same) == nothing
    assert to_run(before) == nothing | {"judge": run(done, weights)["judge"]}
    assert all(step["exact"] for step in (*same["steps"].values(), *before["steps"].values()))


def test_a_plan_that_cannot_search_estimates_what_is_behind_it(done, plan, monkeypatch):
    next(done.glob("**/packs/*/*")).unlink()
    monkeypatch.setattr(search_vectors, "is_remote", lambda _: True)

    found = plan(done)
    assert found["steps"]["judge"]["to_run"] > 0
    assert not found["steps"]["judge"]["exact"]
    assert list(reasons(found, "judge")) == ["depends on search"]


def embed(asked: Asked) -> Reply:
    """Vectors of how often a text has each of the first letters of the alphabet."""
    vector = [1.0 + str(asked.body.get("input")).count(letter) for letter in "abcdefghijkl"]
    return Reply({"data": [{"embedding": vector, "index": 0}]})


def test_a_new_query_prompt_embeds_the_queries_anew_and_no_document_and_the_plan_says_so(done, plan):
    with ScriptedServer(embed) as server:
        address = f"engine: openai, model: m, base_url: '{server.base_url}', encoding_format: float"
        served = [f"mine.first_stages.dense={{{address}, query_prompt: '{prompt}'}}" for prompt in ("", "to us: ")]
        first = run(done, served[0])
        asked = len(server.asked)
        before = plan(done, served[1])
        assert len(server.asked) == asked
        made = run(done, served[1])
        texts = [request.body["input"] for request in server.asked[asked:] if request.body]
        after = plan(done, served[1])

    steps, queries = before["steps"], first["embed_query"]
    assert min(queries, first["embed_video"]) > 2
    assert {name: (steps[name]["to_run"], steps[name]["exact"]) for name in NOTHING if name != "judge"} == {
        **dict.fromkeys(NOTHING.keys() - {"judge"}, (0, True)),
        "embed_query": (queries, True),
    }
    (why,) = reasons(before, "embed_query")
    assert why.startswith("engine options ")
    assert set(reasons(before, "judge")) == {"depends on embed_query"}
    # The prompt has none of the letters that count, so the same videos are found, and the judge is asked nothing.
    assert made == {**NOTHING, "embed_query": queries}
    assert sum(text.startswith("to us: ") for text in texts) == len(texts) == queries + 2  # which are to try it out
    assert to_run(after) == NOTHING


def test_a_plan_foretells_the_test_queries_to_embed_and_nothing_else(done, plan):
    (done / "tests.tsv").write_text("t1\trocket at night\nt2\tgoat on a roof\n")
    rule = {"name": "bench", "queries": str(done / "tests.tsv"), "vectors": {"run": "dense", "cosine": 1.0}}
    setting = f"decontaminate={json.dumps([rule])}"

    before, made, after = plan(done, setting), run(done, setting), plan(done, setting)

    assert to_run(before)["embed_query"] == made["embed_query"] == 2
    assert to_run(after) == {**NOTHING, "judge": 0}
    assert all(step["exact"] for step in after["steps"].values())


def test_a_cold_plan_is_an_estimate_writes_nothing_and_needs_no_key(samples, tmp_path, monkeypatch, plan):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "bad.mp4").write_text("not a video")
    write_list(
        tmp_path, [*(samples / "videos" / f"{clip}.mp4" for clip in CLIPS), tmp_path / "bad.mp4", tmp_path / "gone.mp4"]
    )
    before = sorted(tmp_path.rglob("*"))

    found = plan(
        tmp_path, "judge.teacher={engine: openai, model: m}", "costs.judge={input_tokens: 900, input_price: 2}"
    )

    # 4 files to open, of which one will fail; of 3 videos of 2 variants 9 of 10 with evidence; of 2 queries 8 of 10;
    # 1 positive and 2 candidates each
    embedding = {"embed_video": 5, "embed_query": 9}
    assert to_run(found) == {"decode": 4, "caption": 3, "frame_hashes": 3, "write": 5, **embedding, "judge": 26}
    assert {name: (step["least"], step["most"]) for name, step in found["steps"].items()} == {
        "decode": (4, 4),
        "caption": (3, 3),
        "frame_hashes": (3, 3),
        "write": (3, 6),
        "embed_video": (4, 7),
        "embed_query": (7, 12),
        "judge": (19, 36),
    }
    assert not any(step["exact"] for step in found["steps"].values())
    assert reasons(found, "decode") == {"new": 4}
    assert reasons(found, "judge") == {"depends on decode, caption, frame_hashes, write, embed_video, embed_query": 26}
    assert found["steps"]["judge"]["input_tokens"] == 26 * 900
    assert found["steps"]["judge"]["dollars"] == pytest.approx(26 * 900 * 2 / 1e6)
    assert found["steps"]["judge"]["seconds"] is None
    assert (found["videos"], found["unreadable"], found["unknown_length"]) == (5, 2, 0)
    assert found["media_s"] == pytest.approx(27, abs=3)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_cold_plan_bounds_is_what_the_run_then_does_and_the_bounds_are_near(finished, tmp_path, plan):
    shutil.copy(finished / "list.jsonl", tmp_path / "list.jsonl")
    work = read_manifest(str(finished / "out")).work

    for name, step in plan(tmp_path)["steps"].items():
        assert step["least"] <= work[name]["run"] <= step["most"] <= 2 * step["least"], name


def test_the_table_of_a_plan_is_read_at_80_columns():
    reasons = (Reason("depends on decode, asr, ocr, caption, frame_hashes, write, embed_video, embed_query", 5_905),)
    rate = Rate(900.0, 120.0, measured=True, seconds=3.0, cached_share=0.8, requests=1.1)
    cost = Cost(input_price=2.0)
    steps = [
        step_plan(step, 12_345, False, reasons, rate, cost, paid=True, bounds=(2_953, 5_905))
        for step in ("caption", "frame_hashes", "embed_video", "judge")
    ]
    found, said = Plan(30, 100.0, 0, 0, tuple(steps), ()), io.StringIO()
    console = Console(file=said, width=80, soft_wrap=True)

    console.print(plan_table(found, 80))
    print_reasons(found, console)

    lines = said.getvalue().splitlines()
    assert "2,953-5,905" in said.getvalue()
    assert max(map(len, lines)) <= 80
    assert "…" not in said.getvalue()


def test_copies_of_a_file_are_planned_once_and_estimates_follow_the_cached_part(done, tmp_path, plan):
    uris = [json.loads(line)["uri"] for line in (done / "list.jsonl").read_text().splitlines()]
    new = make_clip(tmp_path / "new.mp4")
    twin = Path(shutil.copy(new, tmp_path / "twin.mp4"))
    old = Path(shutil.copy(uris[0], tmp_path / "old.mp4"))
    write_list(done, [*map(Path, uris), new, twin, old])

    found = plan(done)
    steps = found["steps"]

    assert (steps["decode"]["to_run"], steps["decode"]["cached"], steps["decode"]["exact"]) == (1, 5, True)
    assert (steps["caption"]["to_run"], steps["caption"]["cached"], steps["caption"]["exact"]) == (1, 3, False)
    assert reasons(found, "write")["depends on decode, caption"] == 2
    assert steps["judge"]["to_run"] > 0


def test_the_table_has_a_line_a_step_and_says_which_bound_would_stop_the_run(done, capsys):
    settings = ("synthesize.queries_per_variant=3", "costs.write={input_tokens: 1000}")
    assert main([*command("plan", done, *settings), "--max-calls=1", "--max-tokens=1000000"]) == 0

    told = capsys.readouterr().out
    lines = {line.split()[0]: line for line in told.splitlines()}
    assert lines["write"].split() == "write 0 6 6,000 0 0.00 < 0.01".split()
    assert "write: count 2 -> 3\n" in told
    assert any(line.startswith("judge: depends on write") for line in told.splitlines())
    assert "would leave work for later" in lines["--max-calls"]
    assert "--max-tokens" not in lines
    assert "no prices for write" in " ".join(lines["no"].split())


def test_a_cache_that_cannot_be_read_is_one_line(done, capsys):
    (done / ".hardquery" / "journal" / "judge" / "20310101T000000-1-0.jsonl").mkdir()

    assert main([*command("plan", done), "--force"]) == 2

    assert "(--cache" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def looked_up(root: Path, key: Key, retry: str = "transient") -> str:
    """Why a journal of ``root`` that only looks does not hold a key."""
    with closing(Journal(str(root), retry, look_only=True, note=not_held)) as looking:
        with pytest.raises(Deferred):
            looking.once(key, lambda: pytest.fail("a plan works"), str)
        [miss] = looking.misses()
    return miss.why


def record(root: Path, *keys: Key) -> None:
    with closing(Journal(str(root))) as journal:
        for key in keys:
            journal.once(key, str, str)


ASR = Key("asr", "a.mp4", WHISPER, {"format": "1"}, {"sound": "audio/1"})
JUDGE = Key(
    "judge", "q v", WHISPER, {"prompt": "3f2a" * 4, "count": "0"}, {"evidence": "e", "query": "q", "request": "r"}
)


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (ASR, replace(ASR, subject="b.mp4", inputs={"sound": "audio/2"}), "new"),
        (ASR, replace(ASR, engine=replace(WHISPER, fingerprint="77aa" * 4)), "engine options 9f3a -> 77aa"),
        (
            ASR,
            replace(ASR, engine=replace(WHISPER, version="2031", fingerprint="1")),
            "engine version whisper 20250625 -> 2031",
        ),
        (ASR, replace(ASR, engine=replace(WHISPER, model="tiny", fingerprint="1")), "model large-v2 -> tiny"),
        (ASR, replace(ASR, engine=EngineStamp("sphinx", "5", "", "1")), "engine whisper large-v2 -> sphinx"),
        (ASR, replace(ASR, inputs={"sound": "audio/2"}), "sound"),
        (ASR, replace(ASR, settings={"format": "2"}, inputs={"sound": "audio/2"}), "format 1 -> 2, sound"),
        (
            JUDGE,
            replace(JUDGE, settings={"prompt": "3f2a91cc" * 2, "count": "0"}, inputs={**JUDGE.inputs, "request": "s"}),
            "prompt 3f2a3 -> 3f2a9",
        ),
        (JUDGE, replace(JUDGE, inputs={**JUDGE.inputs, "evidence": "f", "request": "s"}), "evidence"),
        (JUDGE, replace(JUDGE, inputs={**JUDGE.inputs, "request": "s"}), "request"),
    ],
)
def test_a_miss_names_what_changed_since_the_last_record(tmp_path, before, now, reason):
    record(tmp_path, before)

    assert looked_up(tmp_path, now) == reason


def test_a_plan_keeps_a_few_hundred_bytes_of_each_miss():
    names = [f"q-{number:016x} v-{number:016x}" for number in range(10_000)]
    keys = (replace(JUDGE, subject=name, settings={"prompt": "aa", "confidence": "logprobs"}) for name in names)
    tracemalloc.start()
    kept = [not_held(key, None) for key in keys]
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(kept) == len({miss.subject for miss in kept})
    assert grown < 250 * len(kept)


def test_the_last_of_several_records_is_the_one_compared_with(tmp_path):
    record(tmp_path, replace(ASR, settings={"format": "7"}), replace(ASR, settings={"format": "8"}))

    assert looked_up(tmp_path, ASR) == "format 8 -> 1"


def test_a_failure_that_is_tried_again_says_so(tmp_path):
    def fail():
        raise ValueError("broken")

    with closing(Journal(str(tmp_path))) as journal, pytest.raises(RecordedFailure):
        journal.once(ASR, fail, str, failures=(ValueError,))

    assert looked_up(tmp_path, ASR) == "failed before (ValueError)"
    with closing(Journal(str(tmp_path), "none", look_only=True)) as looking, pytest.raises(RecordedFailure):
        looking.once(ASR, str, str)


def test_a_changed_media_file_and_lost_frames_are_told_apart(tmp_path):
    clip, root = make_clip(tmp_path / "a.mp4", frames=4), tmp_path / "cache"

    def decode(look_only: bool) -> list[str]:
        with closing(Journal(str(root), look_only=look_only, note=not_held)) as journal:
            try:
                decode_video(
                    ManifestEntry(str(clip)),
                    Decoding(PyAv(), FramePolicy(max_frames=1), Limits(), Cache(str(root)), journal),
                )
            except Deferred:
                return [miss.why for miss in journal.misses()]
        return []

    assert (decode(look_only=True), root.exists()) == (["new"], False)
    assert decode(look_only=False) == decode(look_only=True) == []
    shutil.rmtree(root / "frames")
    assert decode(look_only=True) == ["record unusable"]
    make_clip(clip, frames=6)
    assert decode(look_only=True) == ["media"]


def test_a_call_takes_what_was_measured_of_its_engine_and_model_else_of_any_else_what_the_recipe_says(tmp_path):
    other = EngineStamp("whisper", "1", "tiny", "1")
    with closing(Journal(str(tmp_path))) as journal:
        for n, engine in enumerate((WHISPER, WHISPER, other)):
            key = Key("judge", f"{n}", engine, inputs={"n": f"{n}"})
            journal.once(key, lambda n=n: TeacherReply("yes", usage=Usage(100 * n, 10 * n)), TeacherReply)
    cost = Cost(input_tokens=7, output_tokens=3)

    with closing(Journal(str(tmp_path), look_only=True)) as looking:
        records = looking.some("judge", 10)
        known, unknown = (Rate.of(records, EngineStamp("whisper", "2", model, ""), cost) for model in ("large-v2", "x"))

    assert (known.input_tokens, known.output_tokens, known.measured) == (50, 5, True)
    assert known.seconds is not None
    assert (unknown.input_tokens, unknown.output_tokens, unknown.measured, unknown.seconds) == (100, 10, True, None)
    assert Rate.of([], WHISPER, cost) == Rate(7, 3, measured=False, seconds=None)


def test_work_behind_missing_work_is_estimated_from_what_is_at_hand():
    recipe = load_recipe("demo", ["mine.candidates=4", "emit.validation_fraction=0"])
    counts = {
        "synthesize/select": {"out": 3},
        "synthesize/filter": {"in": 12, "out": 9},
        "synthesize/deduplicate": {"in": 9, "out": 8},
        "mine/filter": {"in": 8, "out": 4},
    }
    flow = Flow(recipe, counts, {"write": 6, "judge": 12}, {"write": 6}, human=0, ladder=Ladder(()))

    assert flow.write_calls(2) == 4  # two a video
    # 9 queries of 6 calls, and 6 more of 4; 8/9 and then half of them stay; 3 pairs each of 3 videos, so 5 of 5
    assert flow.judge_calls(2, 4) == pytest.approx(15 * 8 / 9 / 2 * 5)
    embedded = replace(flow, calls={**flow.calls, "embed_video": 9})
    assert (flow.queries(4), embedded.embed_video_calls(2, of_text=1, of_frames=0)) == (15, 6)  # three fields a video
    cold = Flow(recipe, {}, {"write": 0, "judge": 0}, {"write": 0}, human=0, ladder=Ladder(()))
    assert cold.judge_calls(10, cold.write_calls(10)) == pytest.approx(10 * 5 * 0.9 * 2 * 0.8 * 5)
    assert replace(cold, calls={"embed_video": 0}).embed_video_calls(10, 1, 1) == pytest.approx(10 * (5 * 0.9 - 1 + 1))
    sampled = replace(cold, ladder=Ladder(("sampling",), samples=8))
    assert sampled.judge_calls(10, sampled.write_calls(10)) == pytest.approx(10 * 5 * 0.9 * 2 * 0.8 * 5 * 9)
    few_words = replace(cold, words_alone=True)
    assert few_words.judge_calls(10, 45) == pytest.approx(45 * 2 * 0.8 * (1 + 0.32 * 9))
    assert few_words.judge_calls(1000, 45) == pytest.approx(45 * 2 * 0.8 * 5)


@pytest.mark.parametrize(
    ("rungs", "asked", "more"),
    [
        (("logprobs", "sampling"), "logprobs", 0),
        (("logprobs_prefill",), "label_only", 1),
        (("logprobs_prefill",), "logprobs_prefill", 0),
        (("verbalized", "logprobs"), "logprobs", 1),
        (("sampling",), "label_only", 8),
        (("sampling",), "sampling", 0),
        (("sampling",), "prior", 9),
        (("logprobs",), "prior", 1),
        (("rules",), "label_only", 0),
        ((), "label_only", 0),
    ],
)
def test_calls_that_follow_a_reply_for_sure_are_those_of_the_first_rung(rungs, asked, more):
    assert calls_to_follow(Ladder(rungs, samples=8), asked) == more


def test_the_plan_knows_how_many_requests_a_call_takes_and_how_much_the_server_has_cached(tmp_path):
    used = [Usage(1000, 10, 900, requests=1, retries=0), Usage(1000, 10, 500, requests=2, retries=1), Usage(400, 10)]
    gave_up = TeacherFailed("busy", usage=Usage().sent(6))
    with closing(Journal(str(tmp_path))) as journal:
        for n, usage in enumerate(used):
            key = Key("judge", f"{n}", WHISPER, inputs={"n": f"{n}"})
            journal.once(key, lambda usage=usage: TeacherReply("yes", usage=usage), TeacherReply)
        with pytest.raises(RecordedFailure):
            journal.once(Key("judge", "x", WHISPER), Raises(gave_up), TeacherReply, failures=(TeacherFailed,))
    cost = Cost(input_price=1.0, cached_price=0.1)

    with closing(Journal(str(tmp_path), look_only=True)) as looking:
        rate = Rate.of(looking.some("judge", 10), WHISPER, cost)

    assert (rate.input_tokens, rate.cached_share, rate.requests) == (800, 0.7, 3)
    step = step_plan("judge", 0, True, (Reason("new", 100),), rate, cost, paid=True)
    assert (step.to_run, step.requests, step.input_tokens, step.cached_tokens) == (100, 300, 80_000, 56_000)
    assert step.dollars == pytest.approx((24_000 + 56_000 * 0.1) / 1e6)
    here = step_plan("embed_video", 0, True, (Reason("new", 100),), rate, cost, paid=False)
    assert (step.calls, here.calls, here.to_run, here.input_tokens, here.dollars) == (100, 0, 100, 0, 0.0)


class Raises:
    """Work that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self) -> TeacherReply:
        raise self.error


def test_headers_are_read_without_decoding_and_bad_files_have_none(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")

    assert probe(str(make_clip(tmp_path / "a.mp4"))) == Headers(has_video=True, has_audio=False, duration_s=2.0)
    assert probe(str(tmp_path / "text.mp4")) is None
