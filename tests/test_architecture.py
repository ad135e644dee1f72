import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_imports_point_down_only():
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("library", ["torch", "whisper", "easyocr", "decord", "openai", "av", "rapidocr", "datasets"])
def test_the_command_line_starts_without_heavy_libraries(library):
    code = f"import runners.cli, pipeline.run, sys; sys.exit({library!r} in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
