import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from schemas.usage import Usage
from schemas.video import EngineStamp
from transforms.journal.budget import Budget, Deferred
from transforms.journal.journal import Journal
from transforms.journal.open_journal import NOT_RUN
from transforms.journal.record import Key, Record, RecordedFailure
from transforms.journal.segments import CannotJournal, Line, scan

ENGINE = EngineStamp("rules", "1.0", "rules-1", "f00d")


def key(n: int = 1, subject: str = "q", **changes: object) -> Key:
    settings = {"prompt": str(changes.pop("prompt", "aa"))}
    return Key("judge", subject, ENGINE, settings, {"n": str(n)})


class Work:
    """Counts how often it is done; fails first with the errors it is given."""

    def __init__(self, value: object = "done", *errors: Exception) -> None:
        self.value, self.errors, self.times = value, list(errors), 0

    def __call__(self) -> object:
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.value


class Broken(Exception):
    def __init__(self, message: str, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True)
class Reply:
    text: str
    scores: tuple[float, ...] = ()
    usage: Usage | None = None


@pytest.fixture
def again(tmp_path):
    """Journals on the same cache, each as of a run of its own; all are closed in the end."""
    opened = []

    def open_another(**options: object) -> Journal:
        for journal in opened:
            journal.close()
        opened.append(Journal(str(tmp_path / "cache"), **options))
        return opened[-1]

    yield open_another
    for journal in opened:
        journal.close()


def records(root: Path) -> list[Record]:
    found = []
    for path in sorted(root.glob("cache/journal/*/*.jsonl")):
        with path.open("rb") as file:
            found += [msgspec.json.decode(item.data, type=Record) for item in scan(file) if isinstance(item, Line)]
    return found


def test_work_is_done_once_in_a_run_and_in_all_later_ones(again):
    work, journal = Work(), again()
    assert [journal.once(key(), work, str) for _ in range(3)] == ["done"] * 3
    assert again().once(key(), work, str) == "done"
    assert work.times == 1


def test_a_first_run_sees_what_every_later_one_will(again):
    exact = Reply("naïve 🎬", (0.1, 1e-300, 3.0))
    first = again().once(key(), lambda: exact, Reply)
    assert first == exact
    assert first is not exact
    assert again().once(key(), Work(), Reply) == exact


def test_all_that_decides_the_result_is_in_the_key_and_the_subject_is_not(again):
    stamp = EngineStamp("rules", "1.0", "rules-1", "beef")
    keys = [
        key(),
        key(2),
        key(prompt="bb"),
        Key("judge", "q", None, {"prompt": "aa"}, {"n": "1"}),
        Key("judge", "q", stamp, {"prompt": "aa"}, {"n": "1"}),
        Key("write", "q", ENGINE, {"prompt": "aa"}, {"n": "1"}),
        Key("judge", "q", ENGINE, {"n": "1"}, {"prompt": "aa"}),
    ]
    assert len({one.digest for one in keys}) == len(keys)
    assert key(subject="other").digest == key().digest
    assert Key("a", "", settings={"x": "1", "y": "2"}).digest == Key("a", "", settings={"y": "2", "x": "1"}).digest


def test_threads_that_want_the_same_wait_for_the_first_and_others_do_not(again):
    journal, begun, go_on = again(), threading.Event(), threading.Event()
    times = []

    def slow() -> int:
        times.append(1)
        begun.set()
        assert go_on.wait(300)
        return 7

    with ThreadPoolExecutor(9) as threads:
        same = [threads.submit(journal.once, key(), slow, int) for _ in range(8)]
        assert begun.wait(300)
        assert threads.submit(journal.once, key(2), Work(3), int).result(timeout=300) == 3
        go_on.set()
        assert [one.result(timeout=300) for one in same] == [7] * 8
    assert len(times) == 1


def test_after_an_error_that_is_nobodys_own_the_next_thread_tries(again):
    journal, work = again(), Work("done", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        journal.once(key(), work, str, failures=(Broken,))
    assert journal.once(key(), work, str, failures=(Broken,)) == "done"


def test_a_failure_is_the_same_when_it_is_recorded_as_when_it_happened(again, tmp_path):
    work, journal = Work("done", Broken("it broke", permanent=True)), again()
    for where in (journal, journal, again()):
        with pytest.raises(RecordedFailure, match="it broke") as failure:
            where.once(key(), work, str, failures=(Broken,))
        raised = failure.value
        assert (raised.error_class, raised.message, raised.permanent) == ("Broken", "it broke", True)
    assert work.times == 1
    assert [record.failed.error_class for record in records(tmp_path)] == ["Broken"]


@pytest.mark.parametrize(
    ("retry", "permanent", "tried_again"),
    [
        ("transient", False, True),
        ("transient", True, False),
        ("all", False, True),
        ("all", True, True),
        ("none", False, False),
        ("none", True, False),
    ],
)
def test_which_failures_the_next_run_tries_again(again, retry, permanent, tried_again):
    work = Work("done", Broken("it broke", permanent))
    with pytest.raises(RecordedFailure):
        again().once(key(), work, str, failures=(Broken,))
    later = again(retry=retry)
    if tried_again:
        assert later.once(key(), work, str, failures=(Broken,)) == "done"
    else:
        with pytest.raises(RecordedFailure):
            later.once(key(), work, str, failures=(Broken,))
    assert work.times == 1 + tried_again


@pytest.mark.parametrize("retry", ["transient", "all", "none"])
def test_a_value_is_used_whatever_failed_before_or_after_it(again, retry):
    work = Work("done", Broken("once"), Broken("twice"))
    for _ in range(2):
        with pytest.raises(RecordedFailure):
            again().once(key(), work, str, failures=(Broken,))
    assert again().once(key(), work, str, failures=(Broken,)) == "done"
    with pytest.raises(RecordedFailure):  # a failure after the value, as of a run whose file was gone
        again().once(key(), Work("", Broken("late", True)), str, failures=(Broken,), usable=lambda _: False)
    assert again(retry=retry).once(key(), Work(), str) == "done"


def test_the_last_failure_stands(again):
    for message in ("first", "last"):
        with pytest.raises(RecordedFailure):
            again().once(key(), Work("", Broken(message)), str, failures=(Broken,))
    with pytest.raises(RecordedFailure, match="last"):
        again(retry="none").once(key(), Work(), str)


def test_the_first_usable_value_is_used(again):
    assert again().once(key(), Work("a"), str) == "a"
    assert again().once(key(), Work("b"), str, usable=lambda value: value != "a") == "b"
    assert again().once(key(), Work("c"), str, usable=lambda value: value not in "ab") == "c"
    assert again().once(key(), Work(), str) == "a"
    assert again().once(key(), Work(), str, usable=lambda value: value != "a") == "b"


def test_what_another_version_wrote_is_done_again(again):
    again().once(key(), Work("text"), str)
    assert again().once(key(), Work(Reply("new")), Reply) == Reply("new")
    assert again().once(key(), Work(), Reply) == Reply("new")
    assert again().once(key(), Work(), str) == "text"


def test_a_record_says_what_it_is_of_and_what_it_took(again, tmp_path):
    again().once(key(subject="q-1"), Work(Reply("yes", usage=Usage(11, 5))), Reply)
    (record,) = records(tmp_path)
    assert (record.step, record.subject, record.engine) == ("judge", "q-1", ENGINE)
    assert (record.settings, record.inputs) == ({"prompt": "aa"}, {"n": "1"})
    assert record.usage == Usage(11, 5)
    assert record.at > 1.7e9
    assert 0 <= record.seconds < 60


def test_a_journal_that_only_looks_does_nothing_and_notes_what_is_not_there(again, tmp_path):
    again().once(key(), Work("old"), str)
    looking, work = again(look_only=True), Work()
    assert looking.once(key(), work, str) == "old"
    with pytest.raises(Deferred, match=NOT_RUN):
        looking.once(key(prompt="bb"), work, str)
    with pytest.raises(Deferred):
        looking.once(key(2, subject="unknown"), work, str)
    changed, new = looking.misses()
    assert changed.key.settings == {"prompt": "bb"}
    assert changed.before.settings == {"prompt": "aa"}
    assert new.before is None
    assert work.times == 0
    assert len(records(tmp_path)) == 1


def test_a_budget_defers_what_is_not_recorded_and_uses_what_is(again):
    again().once(key(1), Work("kept"), str)
    journal, work = again(budget=Budget(max_calls=1)), Work()
    assert journal.once(key(1), work, str) == "kept"
    assert journal.once(key(2), work, str) == "done"
    for n in (3, 2, 1, 3):
        if n == 3:
            with pytest.raises(Deferred, match="max calls"):
                journal.once(key(n), work, str)
        else:
            assert journal.once(key(n), work, str) in ("kept", "done")
    assert work.times == 1
    assert again().once(key(3), work, str) == "done"


def test_tokens_of_recorded_replies_are_not_spent_again(again):
    reply = Work(Reply("yes", usage=Usage(90, 10)))
    again().once(key(1), reply, Reply)
    journal = again(budget=Budget(max_tokens=150))
    for n in (1, 1, 2):
        journal.once(key(n), reply, Reply)
    with pytest.raises(Deferred, match="max tokens"):
        journal.once(key(3), reply, Reply)


def test_a_journal_that_travelled_to_a_worker_shares_the_purse_of_its_run(again):
    journal = again(budget=Budget(max_calls=1))
    journal.once(key(1), Work(), str)
    with pytest.raises(Deferred):
        pickle.loads(pickle.dumps(journal)).once(key(2), Work(), str)


def test_damage_costs_its_record_only_and_is_named(again, tmp_path):
    work = Work()
    for n in (1, 2, 3):
        again().once(key(n), work, str)
    path = sorted(tmp_path.glob("cache/journal/judge/*.jsonl"))
    segment = next(one for one in path if b'"n":"2"' in one.read_bytes())
    segment.write_bytes(segment.read_bytes().replace(b'"done"', b'"gone"'))
    journal = again()
    assert [journal.once(key(n), work, str) for n in (1, 2, 3)] == ["done"] * 3
    assert work.times == 4
    assert journal.damage() == [f"{segment}: damaged at 0"]


def test_what_cannot_be_recorded_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    journal = Journal(str(tmp_path / "file"))
    with pytest.raises(CannotJournal, match="cannot write the journal"):
        journal.once(key(), Work(), str)
    journal.close()


def test_a_closed_journal_can_be_used_again(again):
    journal, work = again(), Work()
    journal.once(key(), work, str)
    journal.close()
    assert journal.once(key(), work, str) == "done"
    assert work.times == 1


def test_whether_there_is_any_record_of_a_step(again):
    journal = again()
    assert not journal.holds("judge")
    journal.once(key(), Work(), str)
    assert journal.holds("judge")
    assert not journal.holds("write")
