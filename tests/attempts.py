"""A runner that attempts every bundle twice: once in vain, before or after the attempt that counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import Any

import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import BundleManager

from transforms.workers import recorded


class KilledLate(RuntimeError):
    """An attempt is lost when all of its work is done and recorded, before the runner hears of it."""


@contextmanager
def every_bundle_twice() -> Iterator[list[str]]:
    """In this process, with one worker; yields how each attempt in vain went.

    Of three bundles, the first is attempted in vain before, up to a kill at its very end, the second before, to its
    end, and the third after it has counted: a zombie, which does and writes everything once more.
    """
    process, tagged = BundleManager.process_bundle, recorded._tagged
    kinds, went = cycle(("killed", "discarded", "zombie")), []
    dies = False

    def late(work: Any) -> Iterator[Any]:
        if dies:
            raise KilledLate
        return tagged(work)

    def twice(self: BundleManager, *given: Any) -> Any:
        nonlocal dies
        kind = next(kinds)
        if kind == "zombie":
            counts = process(self, *given)
            process(self, *given, dry_run=True)
            went.append(kind)
            return counts
        dies = kind == "killed"
        try:
            with suppress(RuntimeError):
                process(self, *given, dry_run=True)
                went.append("discarded")
                dies = False
            if dies:
                went.append("killed")
        finally:
            dies = False
        return process(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BundleManager, "process_bundle", twice)
        patch.setattr(recorded, "_tagged", late)
        yield went
