"""``python -m runners`` is the command ``hardquery``."""

import sys

from runners.cli import main

sys.exit(main())
