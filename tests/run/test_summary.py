import pytest

from runners.console.plain_time import plain_time
from runners.console.summary import print_summary
from tests.support.tiny_output import write_tiny
from transforms.ledger import Line

LINES = [
    Line("extract", "decode", 12, 10, failed={"UnreadableMedia": 2}),
    Line("mine", "filter", 30, 21, rejected={"not retrievable": 9}),
]


@pytest.fixture
def said(tmp_path, capsys):
    manifest = write_tiny(tmp_path)

    def summary(lines, **options):
        print_summary(manifest, lines, str(tmp_path), **options)
        return capsys.readouterr().out

    return summary


def test_a_run_ends_with_what_was_kept_lost_and_taken_and_what_to_open(said):
    told = said(LINES).splitlines()

    assert [line.split(":")[0] for line in told if line[:5] in ("kept:", "lost:", "took:", "open:")] == [
        "kept",
        "lost",
        "took",
        "open",
    ]
    assert "lost:  9 not retrievable (mine), 2 UnreadableMedia (extract)" in told


def test_the_whole_table_is_for_whoever_asks(said):
    assert "left out" not in said(LINES)
    assert "left out" in said(LINES, verbose=True)


def test_files_that_failed_are_named_with_the_command_that_says_why(said):
    [line] = [line for line in said(LINES).splitlines() if line.startswith("files that failed")]

    assert "cut.mp4 (UndecodableVideo)" in line
    assert "why: hardquery explain" in line


def test_a_budget_that_is_spent_is_said_with_the_command_that_goes_on(said):
    deferred = [Line("judge", "judge", 20, 0, deferred={"max calls": 20})]

    told = said(deferred, command="hardquery run demo --max-calls 20")

    assert "Not at its end: work was left for later (20 by max calls)" in told
    assert "the same command goes on where this one stopped: hardquery run demo --max-calls 20" in told
    assert "No query became a ranking group" not in told


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (4320, "1 h 12 min")]
)
def test_a_length_of_time_is_said_as_people_say_it(seconds, said):
    assert plain_time(seconds) == said
