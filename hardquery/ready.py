"""What comes before the first import of a layer: that it is ours, and that it is quiet."""

from __future__ import annotations

from hardquery.shadows import refuse_shadows


def ready() -> None:
    """Make sure that the layers can be imported.

    Raises:
        Shadowed: see ``refuse_shadows``.
    """
    refuse_shadows()
    from runners.quiet import hush

    hush()
