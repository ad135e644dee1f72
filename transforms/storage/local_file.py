"""Files of this machine, written under a temporary name, then renamed; for where Beam is not installed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: str) -> Iterator[BinaryIO]:
    """A binary stream whose content appears at ``path`` only when the block ends without an error.

    Writers of the same path do not disturb each other: each has a temporary file of its own, and the last one stays.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "wb") as stream:
            yield stream
        os.replace(temporary, path)
    except BaseException:  # an interrupt must not leave the temporary file behind either
        Path(temporary).unlink(missing_ok=True)
        raise


def own_folder() -> str:
    """Where this user's own files lie that belong to no cache of a run: no other user can plant any there."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "hardquery")
