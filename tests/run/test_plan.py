"""``hardquery plan``: what it foretells is what the next run does."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.outputs.manifest import read_manifest
from pipeline.planning.plan import Plan
from pipeline.planning.rate import Rate
from pipeline.planning.step import Reason, step_plan
from prompts.template import Template, load_template
from runners.cli.main import main
from runners.cli.runs.plan import plan_table, print_reasons
from tests.support.make_clips import make_clip
from tests.support.scripted_server import Asked, Reply, ScriptedServer
from transforms.journal.budget import Cost
from transforms.mine import search_vectors

CLIPS = ("launch_ostara_1", "launch_ostara_2", "launch_kestrel_1")
FAST = (
    "extract.asr=null extract.ocr=null extract.frames.max_frames=2 emit.frames=null emit.validation_fraction=0 "
    "synthesize.variants=[caption,metadata]"
).split()


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
def finished(short_clips, tmp_path_factory) -> Path:
    """A folder with a list of clips, a finished output of them, and the cache of that run."""
    folder = tmp_path_factory.mktemp("finished")
    write_list(folder, [short_clips / f"{clip}.mp4" for clip in CLIPS])
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
        "embed_video": (2, 7),
        "embed_query": (3, 12),
        "judge": (9, 36),
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


def test_a_run_does_what_a_plan_bounds_and_after_a_few_videos_the_bounds_are_near(finished, tmp_path, plan):
    shutil.copy(finished / "list.jsonl", tmp_path / "list.jsonl")
    work = read_manifest(str(finished / "out")).work

    cold = plan(tmp_path)["steps"]
    first = run(tmp_path, options=("--limit", "2"))
    warm = plan(tmp_path)["steps"]

    for name, step in cold.items():
        assert step["least"] <= work[name]["run"] <= step["most"], name
    for name, step in warm.items():
        assert step["least"] <= work[name]["run"] - first[name] <= step["most"] <= 2 * step["least"], name


def test_a_plan_of_an_input_of_which_nothing_is_done_says_how_to_narrow_it(finished, tmp_path, capsys):
    shutil.copy(finished / "list.jsonl", tmp_path / "list.jsonl")

    assert main(command("plan", tmp_path)) == 0
    assert "--limit 12" in capsys.readouterr().out
    assert main(command("plan", finished)) == 0
    assert "--limit" not in capsys.readouterr().out


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
