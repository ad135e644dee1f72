"""``python -m runners`` is the command ``hardquery``."""

from runners.cli.main import entry

entry()
