import importlib
import sys

import pytest

from runners.cli.left_out import UNUSED, UNUSED_IF_MISSING, leave_out


@pytest.fixture
def nothing_imported(monkeypatch):
    monkeypatch.setattr(sys, "modules", {n: m for n, m in sys.modules.items() if n not in (UNUSED, UNUSED_IF_MISSING)})


def test_connectors_that_no_command_uses_are_empty_or_missing(nothing_imported):
    leave_out(["run", "demo"])

    assert not [name for name in vars(sys.modules[UNUSED]) if not name.startswith("__")]
    with pytest.raises(ImportError):
        importlib.import_module(UNUSED_IF_MISSING)


@pytest.mark.parametrize("flags", [["--runner", "DataflowRunner"], ["--runner=flink"]])
def test_a_run_that_goes_elsewhere_has_all_of_beam(nothing_imported, flags):
    leave_out(["run", "demo", *flags])

    assert {UNUSED, UNUSED_IF_MISSING}.isdisjoint(sys.modules)


def test_what_is_imported_already_stays(monkeypatch):
    import apache_beam.io.mongodbio as real

    leave_out(["run", "demo"])

    assert sys.modules[UNUSED] is real
    assert real.ReadFromMongoDB
