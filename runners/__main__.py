"""``python -m runners`` is the command ``hardquery``."""

from runners.cli import entry

entry()
