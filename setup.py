"""What pyproject.toml cannot say: a wheel takes the sample corpus along, as runners/samples."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SAMPLES = ("README.md", "manifest.jsonl", "queries.tsv", "qrels.trec")


class BuildWithSamples(build_py):
    """Copies the corpus beside the modules; an editable install reads it where it lies."""

    def run(self) -> None:
        """Build as ever, then copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "runners" / "samples"
            shutil.copytree("samples/videos", target / "videos", dirs_exist_ok=True)
            for name in SAMPLES:
                shutil.copy2(Path("samples") / name, target / name)


setup(cmdclass={"build_py": BuildWithSamples})
