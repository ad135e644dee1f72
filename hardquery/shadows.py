"""Files of other people that stand in the way of our top-level packages."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

LAYERS = ("schemas", "prompts", "transforms", "pipeline", "runners", "trainer")


class Shadowed(ImportError):
    """A file of the working folder, or of another package, has the name of one of our packages."""


def refuse_shadows() -> None:
    """Make sure that our packages are those beside this one.

    Raises:
        Shadowed: another file would be imported in the place of one; one line that names it.
    """
    home = Path(__file__).resolve().parent.parent
    for name in LAYERS:
        loaded = sys.modules.get(name)
        spec = loaded.__spec__ if loaded else find_spec(name)
        where = spec.origin or next(iter(spec.submodule_search_locations or ()), "") if spec else ""
        if not where or Path(where).resolve() not in (home / name / "__init__.py", home / name):
            found = where or "nothing"
            raise Shadowed(f"hardquery needs its package {name!r} and would get {found}: rename that, or run elsewhere")
