"""A runner that attempts every bundle twice: once in vain, before or after the attempt that counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

    Of three bundles, two are attempted in vain before: to the end, or, every second time that something was recorded,
    up to a kill at the very end. The third is so after it has counted: a zombie, which does and writes everything once
    more.
    """
    process, tagged = BundleManager.process_bundle, recorded._tagged
    kinds, deaths, went = cycle(("before", "before", "zombie")), cycle((True, False)), []
    in_vain = False

    def late(work: Any) -> Iterator[Any]:
        if in_vain and next(deaths):
            raise KilledLate
        return tagged(work)

    def twice(self: BundleManager, *given: Any) -> Any:
        nonlocal in_vain
        if next(kinds) == "zombie":
            counts = process(self, *given)
            process(self, *given, dry_run=True)
            went.append("zombie")
            return counts
        in_vain = True
        try:
            process(self, *given, dry_run=True)
            went.append("discarded")
        except RuntimeError as error:  # the runner's, of what the worker raised
            if KilledLate.__name__ not in str(error):
                raise
            went.append("killed")
        finally:
            in_vain = False
        return process(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BundleManager, "process_bundle", twice)
        patch.setattr(recorded, "_tagged", late)
        yield went
