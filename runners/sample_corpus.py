"""Where the sample corpus lies: in a wheel beside this file, in a checkout in its folder samples."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def samples_folder() -> Path:
    """The folder with ``manifest.jsonl``, ``queries.tsv``, ``qrels.trec`` and the clips that they name."""
    return next(folder for folder in (_HERE / "samples", _HERE.parent / "samples") if folder.is_dir())
