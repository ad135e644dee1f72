"""Caches for tests: decoded videos with their files, and judgements, written as a run writes them."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from schemas.usage import Usage
from schemas.video import EngineStamp, MediaFacts
from transforms.extract.decode import Decoded
from transforms.extract.decode_file import DecodedFile
from transforms.journal.journal import Journal
from transforms.journal.record import Failed, Key, Record
from transforms.journal.segments import line_of
from transforms.protocols.teacher import TeacherReply
from transforms.storage.cache import Cache, CachedFile

TEACHER = EngineStamp("rules", "1.0", "rules-1", "f00d")
DECODER = EngineStamp("pyav", "18", "", "beef")


def judge_key(n: int, prompt: str = "aa") -> Key:
    """The key of the n-th judgement."""
    return Key("judge", f"q-{n}", TEACHER, {"prompt": prompt}, {"n": str(n)})


def decode_key(n: int) -> Key:
    """The key of the n-th video."""
    return Key("decode", f"videos/{n}.mp4", DECODER, {"format": "1"}, {"media": f"{n:064}"})


def judge(root: str, *numbers: int, text: str = "yes") -> None:
    """Record judgements, as one run."""
    journal = Journal(root)
    for n in numbers:
        journal.once(judge_key(n), lambda: TeacherReply(text, usage=Usage(100, 10)), TeacherReply)
    journal.close()


def decode(root: str, folder: Path, *numbers: int) -> None:
    """Publish frames and sound of videos and record them, as one run; ``folder`` is for temporary files."""
    journal = Journal(root)
    for n in numbers:
        journal.once(
            decode_key(n), lambda n=n: publish(root, folder, n), Decoded, usable=lambda value: usable(root, value)
        )
    journal.close()


def usable(root: str, value: object) -> bool:
    """Whether the files that a value names are there."""
    return not isinstance(value, Decoded) or all(Cache(root).holds(file) for file in value.cached_files)


def publish(root: str, folder: Path, n: int) -> Decoded:
    """Publish frames and sound of a video."""
    files: list[CachedFile] = []
    for kind, suffix in (("frames", "parquet"), ("audio", "flac")):
        (folder / "made").write_bytes(f"{kind} of {n}".encode())
        files.append(Cache(root).publish(str(folder / "made"), f"{kind}/{n:02}/{n:016}.{suffix}"))
        (folder / "made").unlink()
    return Decoded(DecodedFile(MediaFacts(f"{n:064}", 1), 1, ()), *files)


def recorded(key: Key, value: object = None, failed: Failed | None = None, days_ago: float = 0.0) -> bytes:
    """A line of the journal, of work that took a second."""
    raw = msgspec.Raw(msgspec.json.encode(value))
    at = time.time() - 86_400 * days_ago
    record = Record(key.step, key.subject, key.engine, key.settings, key.inputs, at, 1.0, None, raw, failed)
    return line_of(key.digest, "0" * 16, msgspec.json.encode(record))


def write_segment(root: Path, step: str, name: str, *lines: bytes) -> Path:
    """A segment of these lines."""
    path = root / "journal" / step / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path
