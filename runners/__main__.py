"""``python -m runners`` is the command ``hardquery``."""

from hardquery.__main__ import main

main()
