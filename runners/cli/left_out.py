"""What Beam imports that no command uses, left out of its process: it takes a tenth of the time of a small run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

UNUSED = "apache_beam.io.mongodbio"
# Beam goes on without it, as it does where Google's libraries are not installed.
UNUSED_IF_MISSING = "apache_beam.io.gcp.bigquery"


def leave_out(argv: Sequence[str]) -> None:
    """Have Beam, when it is imported, do without its connectors for MongoDB and BigQuery.

    For the command line alone, whose process nobody else imports Beam in; a run that goes elsewhere has all of Beam.
    """
    if not any(word.startswith("--runner") for word in argv):
        sys.modules.setdefault(UNUSED, ModuleType(UNUSED))
        sys.modules.setdefault(UNUSED_IF_MISSING, None)  # type: ignore[arg-type]
