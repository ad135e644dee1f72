"""Signs in six languages, from pixels to training data: what is read of them, and what the filters make of queries.

Run with ``python -m benchmarks.six_languages`` (minutes) where Tesseract has its trained data of the six (Debian:
tesseract-ocr and tesseract-ocr-ara, -chi-sim, -kor, -rus, -spa). A whole run of the recipe demo: the clips in
``signs/`` are decoded, Tesseract reads each with the data of all six, and a scripted server, asked for queries in a
sign's language, writes those of ``tests/support/six_languages.py``, of which it is written beforehand
which a filter should drop and why. ``--record`` keeps what was read, for the tests.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from benchmarks.make_signs import FOLDER, clip_path, signs
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.tables import evidence_of
from prompts.languages import LANGUAGES
from runners.cli.main import main as hardquery
from tests.support.error_rates import character_error_rate
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion
from tests.support.six_languages import OF_SECOND, TABLE, either_of_two, expected
from transforms.engines.openai.probing.probe import QUESTION
from transforms.synthesize.write_queries import language_of

Sign = tuple[str, int]
"""A sign by its language (ISO 639) and number, from 0."""

TRAINED = ("kor", "chi_sim", "ara", "rus", "spa", "eng")
REASONS = ("too short", "too long", "mentions video", "wrong language", "copies evidence", "near duplicate")
TABLES = (TABLE, OF_SECOND)


def video_ids() -> dict[Sign, str]:
    """An id for the clip of each sign under which it is that language's turn (``language_of``)."""
    languages, ids = tuple(LANGUAGES), {}
    for language, texts in signs().items():
        for number in range(len(texts)):
            tried = (f"sign{number + 1}-{language}-{n}" for n in count())
            ids[language, number] = next(each for each in tried if language_of(each, "ocr", languages) == language)
    return ids


def write_as_scripted(asked: Asked) -> Reply:
    """All queries about the sign whose text is nearest to what the prompt shows, with a quotation of that."""
    if not asked.body.get("messages"):  # what the server is, which it does not say
        return Reply({}, status=404)
    said = "\n".join(message["content"] for message in asked.body["messages"])
    if QUESTION in said:
        return completion("one")
    language = next(code for code, one in LANGUAGES.items() if f"is in {one.name}, whatever" in said)
    shown = json.loads(next(line for line in said.splitlines() if line.startswith("ocr: ")).removeprefix("ocr: "))
    lines = [shown] if isinstance(shown, str) else shown
    letters = Counter("".join(lines))
    number = max(range(len(TABLES)), key=lambda each: (letters & Counter(signs()[language][each])).total())
    draft = {
        "evidence": [f"ocr: {max(lines, key=len)}"],
        "rationale": "It is on the sign.",
        "query_type": "ocr",
        "modalities": ["ocr"],
    }
    drafts = [{**draft, "query": text} for text in expected(language, number)]
    return completion(json.dumps({"queries": drafts}, ensure_ascii=False))


def run(folder: Path) -> str:
    """Run the recipe demo on all clips; returns the output."""
    output = str(folder / "out")
    clips = [{"uri": str(clip_path(*sign)), "video_id": video_id} for sign, video_id in video_ids().items()]
    (folder / "list.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    with ScriptedServer(write_as_scripted) as server:
        teacher = {"engine": "openai", "model": "scripted", "base_url": server.base_url, "json_schema": False}
        settings = [
            "extract.asr=null",
            "extract.caption=null",
            f"extract.ocr={json.dumps({'engine': 'tesseract', 'languages': TRAINED, 'page_mode': 6})}",
            f"synthesize.teacher={json.dumps(teacher)}",
            "synthesize.variants=[ocr]",
            f"synthesize.languages={json.dumps([*LANGUAGES])}",
            f"synthesize.queries_per_variant={max(map(len, TABLES))}",
            "judge.modalities=[ocr]",
            "mine.ambiguity=null",
        ]
        given = ["--input", str(folder / "list.jsonl"), "--output", output, "--cache", str(folder / "cache")]
        given += [word for setting in settings for word in ("--set", setting)]
        if hardquery(["run", "demo", *given]) or hardquery(["verify", output]):
            raise SystemExit("the run did not end well")
    return output


def what_was_read(output: str) -> dict[Sign, str]:
    """The text of each sign as the run's evidence has it, a space between lines."""
    rows = read_manifest(output).tables(output).rows("videos", ["video_id", "caption", "asr", "ocr", "metadata"])
    by_id = {row["video_id"]: " ".join(line.text for line in evidence_of(row).ocr) for row in rows}
    return {sign: by_id[video_id] for sign, video_id in video_ids().items()}


def decisions(output: str) -> dict[Sign, dict[str, str | None]]:
    """What the filters of texts said of each query, by sign: a reason, or None where they kept it."""
    written = read_manifest(output).tables(output).rows("queries", ["video_id", "text", "reason"])
    found: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    for row in written:
        found[row["video_id"]][row["text"]] = row["reason"] if row["reason"] in REASONS else None
    return {sign: either_of_two(found[video_id], *sign) for sign, video_id in video_ids().items()}


def error_rate(sign: Sign, read: str) -> float:
    """Characters wrong, of those that the sign shows; spaces do not count."""
    language, number = sign
    return character_error_rate(*("".join(text.split()) for text in (signs()[language][number], read)))


def table(read: Mapping[Sign, str], decided: Mapping[Sign, Mapping[str, str | None]]) -> str:
    """The table, a row a language."""
    lines = [
        f"| language | characters wrong, by sign | queries | {' | '.join(_VERDICTS)} | dropped for |",
        f"|---|---:|---:|{'---:|' * len(_VERDICTS)}---|",
    ]
    total: Counter[str] = Counter()
    for language in LANGUAGES:
        row, reasons = Counter[str](), Counter[str]()
        for sign in (each for each in decided if each[0] == language):
            for text, reason in expected(*sign).items():
                found = decided[sign].get(text)
                row[_verdict(reason, found)] += 1
                if found:
                    reasons[found] += 1
        total += row
        rates = ", ".join(f"{error_rate(sign, read[sign]):.0%}" for sign in read if sign[0] == language)
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        lines.append(_row(LANGUAGES[language].name, rates, row, told))
    lines.append(_row("all", "", total, ""))
    return "\n".join(lines)


_VERDICTS = ("kept rightly", "dropped rightly", "wrongly kept", "wrongly dropped", "for another reason")


def _verdict(expected_reason: str | None, found: str | None) -> str:
    if found == expected_reason:
        return "dropped rightly" if found else "kept rightly"
    if found is None:
        return "wrongly kept"
    return "wrongly dropped" if expected_reason is None else "for another reason"


def _row(name: str, rates: str, row: Counter[str], reasons: str) -> str:
    cells = [name, rates, str(row.total()), *(str(row[verdict]) for verdict in _VERDICTS), reasons]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and each query of which the filters said something else than a reader did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="keep what was read in signs/as_read.tsv")
    record = parser.parse_args(arguments).record
    with tempfile.TemporaryDirectory() as folder:
        output = run(Path(folder))
        read, decided = what_was_read(output), decisions(output)
    if record:
        with (FOLDER / "as_read.tsv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows((*sign, read[sign]) for sign in read)
    print(table(read, decided))
    for sign, found in decided.items():
        for text, reason in expected(*sign).items():
            if found.get(text) != reason:
                print(f"{sign}: {text}: {found.get(text)}, and not {reason}")


if __name__ == "__main__":
    main()
