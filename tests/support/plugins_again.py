"""Plug-ins looked for again, after others were installed."""

from __future__ import annotations

import sys

from transforms.protocols.plugins import origin_of, plugins


def forget_plugins() -> None:
    """Forget which plug-ins there are, and their modules."""
    plugins.cache_clear()
    origin_of.cache_clear()
    for name in [name for name in sys.modules if name.startswith("hardquery_")]:
        del sys.modules[name]
