"""Where a run writes before it publishes: a folder inside the output that readers of the output never see."""

from __future__ import annotations

from pipeline.outputs.lock import LOCK
from transforms.storage.files import delete, exists, join, list_files, list_sizes

STAGING = ".staging"
JOB = ".job.json"  # lies beside the lock while a run is at work elsewhere, and until its output is published
PROGRESS = ".progress.json"  # lies in STAGING: how far the run was that last wrote there
COMMIT = ".commit"  # lies in STAGING from the point of no return until every file is in place


def staging_of(output: str) -> str:
    """The staging folder of an output."""
    return join(output, STAGING)


def is_half_published(output: str) -> bool:
    """Whether files are being moved into place, or were when the run that moved them was killed."""
    return exists(join(staging_of(output), COMMIT))


def list_output(output: str) -> dict[str, int]:
    """The files of an output as its readers see it, without those of a run at work, and their bytes; by path."""
    hidden = (LOCK, JOB, PROGRESS)
    found = list_sizes(output)
    return {path: found[path] for path in found if path not in hidden and not path.startswith(f"{STAGING}/")}


def clear_staging(output: str) -> None:
    """Remove the staging folder and all that is in it, the commit mark last."""
    staging = staging_of(output)
    left = list_files(staging)
    for group in ([path for path in left if path != COMMIT], [path for path in left if path == COMMIT]):
        if group:
            delete([join(staging, path) for path in group])
    if exists(staging):  # where the file system has folders
        delete([staging])
