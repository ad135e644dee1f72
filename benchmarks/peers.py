"""Whether ms-swift's own loader and template inputs take what is exported for it; no part of the test suite.

    python -m benchmarks.peers OUT/exports/ms-swift OUT/exports/ms-swift-frames

Needs ``pip install ms-swift`` (read with 4.6.0), in an environment of its own: it pins what hardquery does not.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    from swift.dataset import load_dataset

    print("| file | rows | as loaded |\n|---|---:|---|")
    for folder in parser.parse_args().folders:
        for path in sorted(folder.glob("*.jsonl")):
            rows, _ = load_dataset(str(path), split_dataset_ratio=0.0, strict=True)
            written = path.read_text("utf-8").count("\n")
            if len(rows) != written:
                raise SystemExit(f"{path}: {len(rows)} of {written} rows are left")
            told = {_told(row) for row in rows}
            print(f"| {folder.name}/{path.name} | {len(rows)} | {'; '.join(sorted(told))} |", flush=True)


def _told(row: dict[str, Any]) -> str:
    """What the peer's template is handed of a row: as many videos as each text has places for."""
    from swift.template.template_inputs import TemplateInputs

    inputs = TemplateInputs.from_dict(row)
    sides = {"positive": inputs.positive, "negative": inputs.negative} if inputs.positive else {"list": [inputs.chosen]}
    videos = []
    for name, found in sides.items():
        for each in found:
            places = sum(message["content"].count("<video>") for message in each.messages)
            if places != len(each.videos):
                raise SystemExit(f"{name}: {places} places for {len(each.videos)} videos: {each}")
            videos += each.videos
    kind = "frames" if all(isinstance(video, list) for video in videos) else "files"
    return f"{kind}, {' and '.join(sides)}"


if __name__ == "__main__":
    main()
