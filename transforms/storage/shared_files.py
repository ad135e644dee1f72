"""Files that several folders of this machine have in common: kept once, under the name that each has for them."""

from __future__ import annotations

import filecmp
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from schemas.check import read_json
from schemas.fingerprint import fingerprint
from transforms.storage.local_file import written_whole

OUTPUTS = "outputs"  # in a cache: the register of the outputs that were made with it


@dataclass(frozen=True, slots=True)
class Registered:
    """A folder, and the SHA-256 of some of its files by their paths within it."""

    folder: str
    hashes: Mapping[str, str]


def share_files(folder: str, hashes: Mapping[str, str], register: str) -> int:
    """Keep those files of ``folder`` once that another folder of the register has too; returns how many those are.

    ``register`` is a folder with an entry a folder, this one's last ``hashes`` among them afterwards. A file that is
    shared has one more hard link: it lives as long as one of its names. Whoever replaces it, as all of hardquery does,
    leaves the others alone; what writes into it changes them all, and ``verify`` tells. Files of the same hash are
    compared before. A file is left as it is where its disk has no links, or the other is not there any more.

    Raises:
        OSError: the register cannot be written to.
    """
    folder = os.path.abspath(folder)
    entry = os.path.join(register, f"{fingerprint(folder)[:16]}.json")
    found = {
        sha256: os.path.join(other.folder, path)
        for other in _registered(register)
        if other.folder != folder
        for path, sha256 in other.hashes.items()
    }
    known = {path: found[sha256] for path, sha256 in hashes.items() if sha256 in found}
    shared = sum(_link(source, os.path.join(folder, path)) for path, source in known.items())
    with written_whole(entry) as stream:
        stream.write(msgspec.json.encode(Registered(folder, hashes)))
    return shared


def _registered(register: str) -> Iterator[Registered]:
    for entry in sorted(Path(register).glob("*.json")):
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            yield read_json(entry.read_bytes(), Registered)


def _link(source: str, path: str) -> bool:
    """Make ``path`` another name of the file ``source``, if both hold the same bytes."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        if os.path.samefile(source, path):  # a rename of one name of a file onto another would leave both
            return True
        if not filecmp.cmp(source, path, shallow=False):
            return False
        os.link(source, temporary)
        os.replace(temporary, path)
    except OSError:
        return False
    return True
