"""Which error a failed run began with, in one line: Beam wraps errors, and hands those of a worker on as text."""

from __future__ import annotations

import re
import traceback

_HEADER = "Traceback (most recent call last):"
_BECAUSE = "The above exception was the direct cause of the following exception:"
_MEANWHILE = "During handling of the above exception, another exception occurred:"
_LINK = re.compile(f"^({re.escape(_BECAUSE)}|{re.escape(_MEANWHILE)})$", re.MULTILINE)
_STEP = re.compile(r"\s*\[while running '.*?'\]")
# An error of ours repeats what it was made from, and says of which file, video or engine it was.
_OURS = ("schemas", "prompts", "transforms", "pipeline", "runners", "trainer")


def cause(error: BaseException) -> str:
    """Name and first line of the first error of a chain or, where ours is raised from another's, of ours.

    A chain is what was raised ``from`` each other. An error met while another was being handled begins a chain of its
    own, save where it is the same error, raised again by Beam to say in which step that was.
    """
    said, *blocks = reversed(_LINK.split(_trace(error)))
    said = _said(said)
    for link, block in zip(blocks[::2], blocks[1::2], strict=True):
        if said.partition(".")[0] in _OURS or (link == _MEANWHILE and not _STEP.search(said)):
            break
        said = _said(block)
    name, colon, message = _STEP.sub("", said).partition("\n")[0].partition(":")
    return name.rpartition(".")[2] + colon + message.rstrip()


def _trace(error: BaseException) -> str:
    """The trace of an error, the last raised at the end; an error of a worker has none but its own text."""
    text = str(error)
    return text if text.startswith(_HEADER) else "".join(traceback.format_exception(error))


def _said(block: str) -> str:
    """What a trace says of its error: the lines from the first one behind the frames, which are indented."""
    lines = block.strip("\n").removeprefix(_HEADER).splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(" ")), len(lines))
    return "\n".join(lines[first:])
