import os
import random
from pathlib import Path

import msgspec
import pytest

from pipeline.cache.contents import KINDS, look_into
from pipeline.cache.prune import DAY_S, carry_out, plan
from tests.support.object_store import ObjectStore
from tests.support.tiny_cache import decode, decode_key, judge, judge_key, publish, recorded, usable, write_segment
from transforms.extract.decode import Decoded
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.journal.record import Failed, Key, RecordedFailure
from transforms.protocols.teacher import TeacherReply
from transforms.storage.cache_lock import CacheInUse, having_alone


def prune(root: Path | str, **options) -> int:
    contents = look_into(str(root))
    pruning = plan(contents, **options)
    carry_out(pruning, contents)
    return pruning.freed_bytes


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".in-use"
    }


def size(root: Path) -> int:
    return sum(map(len, files(root).values()))


def answers(root: Path, keys: list[Key]) -> list[object]:
    """What a run that does nothing itself finds under each key."""
    found: list[object] = []
    journal = Journal(str(root), retry="none", look_only=True)
    for key in keys:
        try:
            found.append(
                journal.once(key, lambda: None, KINDS[key.step], usable=lambda value: usable(str(root), value))
            )
        except Deferred:
            found.append(None)
        except RecordedFailure as failure:
            found.append(failure.message)
    journal.close()
    return found


KEYS = [*(judge_key(n) for n in range(6)), *(decode_key(n) for n in range(4))]


def any_cache(root: Path, seed: int) -> None:
    """A cache with all that can become of one: repeated values, failures, damage, files that are gone or unnamed."""
    draw = random.Random(seed)
    decoded = {n: publish(str(root), root, n) for n in range(4)}
    for step, keys in (("judge", KEYS[:6]), ("decode", KEYS[6:])):
        for segment in range(draw.randrange(1, 5)):
            lines = []
            for number in range(draw.randrange(0, 8)):
                key = draw.choice(keys)
                what = f"{segment}.{number}"
                value = TeacherReply(what) if step == "judge" else decoded[int(key.inputs["media"])]
                if step == "decode" and draw.random() < 0.3:
                    value = gone(value)
                line = draw.choice(
                    [
                        *[recorded(key, value)] * 2,
                        recorded(key, failed=Failed("Broken", what, True)),
                        recorded(key, {"another": "version"}),
                    ]
                )
                lines.append(b"#" + line[1:] if draw.random() < 0.1 else line)
            torn = draw.random() < 0.3
            write_segment(root, step, f"2026010{segment}-1-aa", *lines, *([recorded(keys[0], 1)[:50]] if torn else []))
    if draw.random() < 0.5:
        (root / "frames/00/0000000000000000.parquet").unlink()


def gone(value: Decoded) -> Decoded:
    frames = msgspec.convert({**msgspec.to_builtins(value.frames), "size_bytes": 1}, type(value.frames))
    return Decoded(value.file, frames, value.audio)


@pytest.mark.parametrize("seed", range(40))
def test_a_run_finds_the_same_after_pruning_and_a_second_pruning_changes_nothing(tmp_path, seed):
    any_cache(tmp_path, seed)
    before, bytes_before = answers(tmp_path, KEYS), size(tmp_path)
    freed = prune(tmp_path)
    assert answers(tmp_path, KEYS) == before
    assert size(tmp_path) == bytes_before - freed
    pruned = files(tmp_path)
    assert prune(tmp_path) == 0
    assert files(tmp_path) == pruned


def test_failures_that_a_value_came_after_go_and_of_others_the_last_stays(tmp_path):
    first, last = (recorded(judge_key(2), failed=Failed("Broken", text, False)) for text in ("first", "last"))
    failed, value = recorded(judge_key(1), failed=Failed("Broken", "", True)), recorded(judge_key(1), TeacherReply(""))
    write_segment(tmp_path, "judge", "a", failed, first, value, failed, last)
    prune(tmp_path)
    assert b"".join(files(tmp_path).values()) == value + last


class Killed(BaseException):
    """The end of the process, as far as the file system can tell."""


@pytest.mark.parametrize("seed", range(6))
def test_pruning_can_be_killed_between_any_two_changes(tmp_path, monkeypatch, seed):
    after = 0
    while True:
        root = tmp_path / str(after)
        root.mkdir()
        any_cache(root, seed)
        before = answers(root, KEYS)
        with monkeypatch.context() as dying:
            left = [after]

            def until_killed(change, left=left):
                def wrapped(*arguments, **named):
                    if not left[0]:
                        raise Killed
                    left[0] -= 1
                    return change(*arguments, **named)

                return wrapped

            for name in ("unlink", "rename", "remove"):
                dying.setattr(os, name, until_killed(getattr(os, name)))
            try:
                prune(root)
                finished = True
            except Killed:
                finished = False
        assert answers(root, KEYS) == before
        prune(root)
        assert answers(root, KEYS) == before
        assert not look_into(str(root)).leftovers
        if finished:
            assert after > 1
            return
        after += 1


def test_values_of_other_versions_are_kept_with_the_files_they_name(tmp_path):
    publish(str(tmp_path), tmp_path, 1)
    write_segment(tmp_path, "decode", "a", recorded(decode_key(1), {"pack": f"frames/01/{1:016}.parquet"}))
    write_segment(tmp_path, "embed", "a", recorded(Key("embed", "v"), [1.0, 2.0]))
    prune(tmp_path)
    assert sorted(files(tmp_path)) == [f"frames/01/{1:016}.parquet", "journal/decode/a.jsonl", "journal/embed/a.jsonl"]


def test_what_nobody_names_and_what_was_not_finished_goes_and_what_is_not_ours_stays(tmp_path):
    decode(str(tmp_path), tmp_path, 1)
    kept = files(tmp_path)
    publish(str(tmp_path), tmp_path, 2)
    for path in (f"frames/03/x.parquet.{'0' * 32}.tmp", f"journal/judge/x.jsonl.{'1' * 32}.tmp"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"half")
    for path in ("frames/notes.txt", "thesis.tex", "frames/03/x.parquet.tmp"):
        (tmp_path / path).write_bytes(b"mine")
        kept[path] = b"mine"
    prune(tmp_path)
    assert files(tmp_path) == dict(sorted(kept.items()))


def test_lists_of_inputs_go_when_no_run_can_be_about_to_read_them(tmp_path):
    decode(str(tmp_path), tmp_path, 1)
    for name, days_ago in (("old", 2), ("new", 0)):
        path = tmp_path / "inputs" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}\n")
        os.utime(path, (path.stat().st_mtime - days_ago * DAY_S,) * 2)
    prune(tmp_path)
    assert [path.name for path in (tmp_path / "inputs").iterdir()] == ["new.jsonl"]


def test_frames_on_another_disk_are_not_taken_for_lost(tmp_path):
    root, disk = tmp_path / "cache", tmp_path / "disk"
    disk.mkdir()
    root.mkdir()
    (root / "frames").symlink_to(disk)
    decode(str(root), tmp_path, 1)
    assert prune(root) == 0
    assert answers(root, [decode_key(1)]) != [None]


def test_old_results_go_with_their_files_when_that_is_asked_for(tmp_path):
    lines = [recorded(judge_key(n), TeacherReply("yes"), days_ago=days) for n, days in ((1, 40), (2, 20))]
    write_segment(tmp_path, "judge", "a", *lines)
    write_segment(
        tmp_path,
        "decode",
        "a",
        *(
            recorded(decode_key(n), publish(str(tmp_path), tmp_path, n), days_ago=days)
            for n, days in ((1, 40), (2, 20))
        ),
    )
    prune(tmp_path, older_than_s=30 * DAY_S)
    assert [answer is not None for answer in answers(tmp_path, [judge_key(1), judge_key(2)])] == [False, True]
    assert sorted(look_into(str(tmp_path)).cached) == [f"audio/02/{2:016}.flac", f"frames/02/{2:016}.parquet"]


def test_one_step_can_be_pruned_alone(tmp_path):
    for _ in range(2):
        write_segment(tmp_path, "judge", f"{_}", recorded(judge_key(1), TeacherReply("yes")))
        write_segment(tmp_path, "write", f"{_}", recorded(Key("write", "q"), TeacherReply("yes")))
    publish(str(tmp_path), tmp_path, 1)
    prune(tmp_path, step="judge")
    contents = look_into(str(tmp_path))
    assert {step: len(segments) for step, segments in contents.segments.items()} == {"judge": 1, "write": 2}
    assert len(contents.cached) == 2
    prune(tmp_path, step="decode")
    assert len(look_into(str(tmp_path)).cached) == 0


def test_a_cache_in_use_cannot_be_had(tmp_path):
    journal = Journal(str(tmp_path))
    journal.once(judge_key(1), lambda: TeacherReply("yes"), TeacherReply)
    with pytest.raises(CacheInUse):
        having_alone(str(tmp_path)).__enter__()
    journal.close()


class DatedStore(ObjectStore):
    """An object store that says when its objects were written, by their names."""

    @classmethod
    def scheme(cls):
        return "dated"

    def _list(self, dir_or_prefix):
        for found in super()._list(dir_or_prefix):
            found.last_updated_in_seconds = self.written_s(found.path)
            yield found

    @staticmethod
    def written_s(path: str) -> float:
        return 1.0 if "old" in path else 4e9


def test_in_an_object_store_only_what_is_older_than_a_day_is_touched(monkeypatch):
    objects: dict[str, bytes] = {}
    monkeypatch.setattr(ObjectStore, "objects", objects)
    yes, no, later = (recorded(judge_key(1), TeacherReply(text)) for text in ("yes", "no", "later"))
    for name, line in (("1-old", yes), ("2-old", no), ("3-new", later), ("4-old", no)):
        objects[f"dated://bucket/c/journal/judge/{name}.jsonl"] = line
    objects["dated://bucket/c/frames/aa/old.parquet"] = objects["dated://bucket/c/frames/aa/new.parquet"] = b"frames"
    prune("dated://bucket/c")
    merged, *others = sorted(objects)[1:]
    assert others == [f"dated://bucket/c/journal/judge/{name}.jsonl" for name in ("3-new", "4-old")]
    assert objects[merged] == yes
    assert sorted(objects)[0] == "dated://bucket/c/frames/aa/new.parquet"


def test_in_an_object_store_that_does_not_say_when_nothing_is_touched(monkeypatch):
    objects = {f"objects://bucket/c/journal/judge/{n}.jsonl": recorded(judge_key(1), 1) for n in range(3)}
    monkeypatch.setattr(ObjectStore, "objects", dict(objects))
    assert prune("objects://bucket/c") == 0
    assert ObjectStore.objects == objects


def test_pruning_says_beforehand_exactly_what_it_frees(tmp_path):
    judge(str(tmp_path), 1, 2)
    judge(str(tmp_path), 3)
    decode(str(tmp_path), tmp_path, 1)
    publish(str(tmp_path), tmp_path, 2)
    planned, before = plan(look_into(str(tmp_path))).freed_bytes, size(tmp_path)
    assert size(tmp_path) == before
    prune(tmp_path)
    assert planned == before - size(tmp_path) > 0
