import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_point_down_only():
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout


def test_the_command_line_starts_without_heavy_libraries():
    heavy = ["torch", "whisper", "easyocr", "decord", "openai", "av", "rapidocr", "datasets"]
    code = f"import runners.cli.main, pipeline.run, sys; print([name for name in {heavy} if name in sys.modules])"

    started = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert started.stdout.strip() == "[]"
