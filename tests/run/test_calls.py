from dataclasses import replace

import pytest

from pipeline.outputs.manifest import Manifest
from pipeline.outputs.report.calls import calls_of, prompt_cache_warning
from pipeline.outputs.report.card import render_card
from pipeline.outputs.report.report import render_report
from pipeline.outputs.report.summary import summarize
from runners.console.summary import print_summary
from tests.support.tiny_output import write_tiny

VIDEOS = 12
JUDGE = {
    "cached": 40,
    "run": 1180,
    "failed": 20,
    "requests": 1290,
    "retries": 90,
    "input_tokens": 1_180_000,
    "cacheable_tokens": 1_180_000,
    "cached_tokens": 1_062_000,
    "output_tokens": 141_600,
    "reasoning_tokens": 59_000,
    "earlier_requests": 41,
    "earlier_retries": 1,
    "earlier_input_tokens": 40_000,
    "earlier_output_tokens": 4_800,
}
WRITE = {"run": 60, "requests": 60, "silent": 60}
WORK = {"decode": {"run": 12}, "asr": {"run": 12}, "write": WRITE, "judge": JUDGE}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calls")
    return folder, replace(write_tiny(folder), work=WORK)


def warning(output, **judge: int) -> str:
    manifest: Manifest = output[1]
    return prompt_cache_warning(replace(manifest, work={"judge": {**JUDGE, **judge}}))


def test_only_steps_that_asked_a_server_are_shown():
    assert [calls.step for calls in calls_of(WORK)] == ["write", "judge"]
    assert calls_of({"caption": {"run": 6}, "write": {"cached": 3, "earlier_requests": 3}}) == []
    assert calls_of({}) == []


def test_calls_are_those_made_and_requests_theirs():
    write, judge = calls_of(WORK)
    assert (judge.found, judge.made, judge.requests, judge.retries) == (40, 1200, 1290, 90)
    assert (judge.input_tokens, judge.output_tokens, judge.cached_share) == (1_180_000, 141_600, 0.9)
    assert (write.made, write.requests, write.input_tokens, write.cached_share, write.silent) == (60, 60, 0, None, 60)


def test_all_runs_together_count_what_was_found_as_well():
    _, judge = calls_of(WORK, all_runs=True)
    assert (judge.found + judge.made, judge.requests, judge.retries) == (1240, 1331, 91)
    assert (judge.input_tokens, judge.output_tokens) == (1_220_000, 146_400)
    assert [calls.step for calls in calls_of({"write": {"cached": 3, "earlier_requests": 3}}, all_runs=True)] == [
        "write"
    ]


def test_a_prompt_cache_that_is_used_is_no_cause_for_a_warning(output):
    assert warning(output) == ""
    assert warning(output, cached_tokens=826_000) == ""  # 70 %


@pytest.mark.parametrize("share", [0, 0.12, 0.69])
def test_a_prompt_cache_that_is_hardly_used_is_one_line(output, share):
    said = warning(output, cached_tokens=int(share * 1_180_000))
    assert said.startswith(f"only {share:.0%} of the judge's input tokens came from its server's prompt cache")
    assert "\n" not in said


def test_a_server_that_does_not_tell_is_left_alone(output):
    assert warning(output, cached_tokens=0, cacheable_tokens=0) == ""


@pytest.mark.parametrize("judge", [{"run": 199, "failed": 0}, {"run": 0, "failed": 0, "cached": 5000}])
def test_a_run_with_few_calls_is_left_alone(output, judge):
    assert warning(output, cached_tokens=0, **judge) == ""
    assert warning(output, cached_tokens=0, run=200, failed=0) != ""


def test_a_run_with_few_calls_about_each_video_is_left_alone(output):
    files = [replace(file, rows=10 * (file.rows or 0)) for file in output[1].files]
    manifest = replace(output[1], files=tuple(files))
    work = {"judge": {**JUDGE, "cached_tokens": 0, "failed": 0}}
    assert sum(file.rows for file in files if file.path.startswith("videos/")) == 10 * VIDEOS
    assert prompt_cache_warning(replace(manifest, work={"judge": {**work["judge"], "run": 1199}})) == ""
    assert prompt_cache_warning(replace(manifest, work={"judge": {**work["judge"], "run": 1200}})) != ""


def test_the_report_shows_them(output):
    folder, manifest = output
    page = render_report(str(folder), manifest, summarize(str(folder), manifest))
    for text in ("Calls to servers", "1,290", "1,180,000", "90 %", "59,000", "60 replies to write came without any"):
        assert text in page
    assert "prompt cache" not in page
    bad = replace(manifest, work={"judge": {**JUDGE, "cached_tokens": 0}})
    assert "only 0% of the judge&#39;s input tokens" in render_report(str(folder), bad, summarize(str(folder), bad))


def test_the_card_shows_those_of_all_runs(output):
    folder, manifest = output
    card = render_card(summarize(str(folder), manifest))
    assert "| judge | 1240 | 1331 | 91 | 1220000 | 1062000 | 146400 | 59000 |" in card
    assert "| write | 60 | 60 | 0 | not told | not told | not told | not told |" in card


def test_without_a_server_none_of_it_is_shown(tmp_path, capsys):
    manifest = write_tiny(tmp_path)
    print_summary(manifest, [], str(tmp_path))
    assert "requests" not in (tmp_path / "README.md").read_text() + capsys.readouterr().out
    assert "Calls to servers" not in (tmp_path / "report.html").read_text()


def test_the_summary_of_a_run_shows_them(output, capsys):
    folder, manifest = output
    print_summary(
        replace(manifest, work={**WORK, "judge": {**JUDGE, "cached_tokens": 0}}), [], str(folder), verbose=True
    )
    said = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line}
    assert lines["judge"] == ["judge", "1,200", "1,290", "90", "1,180,000", "0%", "141,600", "59,000"]
    assert lines["write"] == ["write", "60", "60", "0", "-", "-", "-", "-"]
    assert "only 0% of the judge's input tokens" in said
