"""Finishing an output: card, report and manifest from what is staged, then all of it moved into place."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.outputs.errors import OutputError
from pipeline.outputs.manifest import (
    MANIFEST,
    has_manifest,
    listed_files,
    manifest_sha256,
)
from pipeline.outputs.staging import COMMIT, clear_staging, is_half_published, staging_of
from pipeline.outputs.tables import is_table_file
from transforms.emit.shards import WrittenFile
from transforms.storage.files import (
    delete,
    digest,
    join,
    list_files,
    make_parent,
    read_bytes,
    rename,
    write_bytes,
)


def publish(output: str) -> None:
    """Put the finished staging folder of ``output`` in the place of what an earlier run left there.

    The commit mark is the point of no return: before it nothing has changed for readers, and after it ``settle``
    finishes what a kill at any moment left undone.
    """
    write_bytes(join(staging_of(output), COMMIT), manifest_sha256(staging_of(output)).encode())
    settle(output)


def settle(output: str) -> None:
    """Finish a publication that has passed its point of no return; where there is none, do nothing.

    Every file of the new manifest is moved into place and the manifest last, for it replaces the old one. Then the
    shards of the earlier run go (files in the folders of tables that are named as shards are and are not in the
    manifest, and nothing else), then the staging folder. To be called by the holder of the lock.

    Raises:
        OutputError: the new manifest is neither staged nor in place, as if somebody had removed it by hand.
    """
    staging = staging_of(output)
    if not is_half_published(output):
        return
    staged = set(list_files(staging))
    if MANIFEST in staged:
        for path in [*(file.path for file in listed_files(staging)), MANIFEST]:
            if path in staged:  # else it was moved before we were interrupted
                _move(join(staging, path), join(output, path))
    commit = read_bytes(join(staging, COMMIT)).decode()
    if not has_manifest(output) or manifest_sha256(output) != commit:
        raise OutputError(
            f"{output} was changed while its publication was interrupted: empty that folder, then run again"
        )
    known = {file.path for file in listed_files(output)}
    stale = [join(output, path) for path in list_files(output) if is_table_file(path) and path not in known]
    if stale:
        delete(stale)
    clear_staging(output)


def _move(source: str, destination: str) -> None:
    make_parent(destination)
    rename(source, destination)


def _by_path(files: Iterable[WrittenFile]) -> tuple[WrittenFile, ...]:
    return tuple(sorted(files, key=lambda file: file.path))


def describe(output: str, path: str) -> WrittenFile:
    """Size and SHA-256 of one file of the output."""
    return WrittenFile(path, *digest(join(output, path)))
