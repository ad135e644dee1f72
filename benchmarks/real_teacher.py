"""A small real teacher behind a real server: how many of its replies can be read, what they say, and how sure it is.

Run with ``python -m benchmarks.real_teacher --model qwen`` (or smollm2) after ``make test-real``. The server is
llama.cpp's own. Queries are written and pairs judged by the real steps.
Evidence is what the script of the sample corpus says was spoken, shown and published; the pairs to judge are those of
its labelled queries by people.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

from pipeline.audit.figures import area_under_curve
from prompts.reply import UnparsableReply
from prompts.template import Template, load_template
from schemas.query import Judgement, Query
from schemas.video import AsrSegment, Box, Evidence, MediaFacts, Metadata, OcrLine, Video
from tests.support.llama_server import VERDICT_GRAMMAR, LlamaServer, serving
from tests.support.real_weights import qwen, smollm2
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import Teacher
from transforms.synthesize.filter_queries import TextFilters, reject_reason
from transforms.synthesize.write_queries import write_queries

SAMPLES = Path(__file__).parent.parent / "samples"
JUDGED_BY = ("asr", "ocr", "metadata")
MODELS = {"smollm2": smollm2, "qwen": qwen}  # SmolLM2-135M-Instruct, Qwen2.5-Coder-1.5B-Instruct; in 4 bits
TRIES = 3
HELD = {"grammar": VERDICT_GRAMMAR}
MAX_TOKENS = 700  # a whole reply takes about 200
WARM = 0.7  # the temperature at which the recipe rankvideo has queries written; at 0, another seed changes nothing
WAYS_TO_WRITE = (("with a JSON schema", True), ("without", False))
WAYS_TO_JUDGE = (
    ("held to the form by a grammar", {"extra_body": HELD}, None),
    ("held, by the prompt without an example", {"extra_body": HELD}, load_template("judge_without_example")),
    ("free", {"temperature": WARM}, None),
)


def scripted_videos() -> list[Video]:
    """The clips of the sample corpus that speak, as its script tells them: nothing has to be recognised."""
    clips = yaml.safe_load((SAMPLES / "corpus.yaml").read_text("utf-8"))["clips"]
    return [_video(clip) for clip in clips if "say" in clip]


def _video(clip: dict[str, Any]) -> Video:
    shown = [line for shot in clip["shots"] for line in (*shot.get("labels", ()), *shot.get("caption", ()))]
    everywhere = Box(0.0, 0.0, 1.0, 1.0)
    evidence = Evidence(
        asr=(AsrSegment(0.0, 8.0, clip["say"], 1.0),),
        ocr=tuple(OcrLine(0.0, 8.0, line, everywhere, 1.0) for line in shown),
        metadata=Metadata(clip["title"], clip.get("description", "")),
    )
    return Video(clip["name"], f"file:{clip['name']}", MediaFacts("0" * 64, 1), evidence)


def labelled_pairs(videos: Sequence[Video]) -> list[Pair]:
    """Queries by people with the videos that they are labelled for, among these."""
    by_id = {video.video_id: video for video in videos}
    with (SAMPLES / "queries.tsv").open(encoding="utf-8") as file:
        queries = dict(csv.reader(file, delimiter="\t"))
    labels = [line.split() for line in (SAMPLES / "qrels.trec").read_text("utf-8").splitlines()]
    return [
        Pair(Query(query_id, video_id, queries[query_id], "human"), by_id[video_id], None, relevant == "1")
        for query_id, _, video_id, relevant in labels
        if video_id in by_id
    ]


@dataclass(frozen=True)
class Written:
    """What came of asking for a query: it and the number of tries, or why there is none."""

    video: Video
    query: Query | None
    reason: str = ""

    @property
    def attempts(self) -> int | None:
        """How many tries it took."""
        return self.query.attempts if self.query else None

    @property
    def fate(self) -> str:
        """Why no reply could be read or a text filter drops the query; "kept" where none does."""
        if self.query is None:
            return self.reason
        found = reject_reason(self.query, self.video.evidence, TextFilters())
        return found[0] if found else "kept"


def write(teacher: Teacher, engine: OpenAiTeacher, video: Video) -> Written:
    """One query from all of a video's evidence; a reply that cannot be read is asked for again, as in a run."""
    try:
        return Written(video, write_queries(teacher, engine.stamp(), video, "all", 1)[0])
    except UnparsableReply as error:
        return Written(video, None, error.reason)


@dataclass(frozen=True)
class Asked:
    """What came of asking about a pair: the verdict and the number of tries, or why the first reply held none."""

    pair: Pair
    judgement: Judgement | None
    attempts: int | None
    reason: str


def judge(
    teacher: Teacher, engine: OpenAiTeacher, pair: Pair, tries: int = TRIES, template: Template | None = None
) -> Asked:
    """The verdict on a pair; where a reply holds none, another seed is tried, which no run does."""
    reasons = []
    for attempt in range(1, tries + 1):
        try:
            judgement = judge_pair(teacher, engine.stamp(), pair, JudgeOptions(JUDGED_BY, attempt, template=template))
            return Asked(pair, judgement, attempt, "".join(reasons[:1]))
        except UnparsableReply as error:
            reasons.append(error.reason)
    return Asked(pair, None, None, reasons[0])


def within(attempts: Sequence[int | None], tries: int) -> str:
    """How many of these took at most so many tries."""
    return f"{sum(attempt is not None and attempt <= tries for attempt in attempts)} of {len(attempts)}"


def writing_row(written: Sequence[Written]) -> str:
    """Cells of the table of writing."""
    attempts = [each.attempts for each in written]
    fates = Counter(each.fate for each in written).most_common()
    listed = ", ".join(f"{count} {fate}" for fate, count in fates)
    return f"{within(attempts, 1)} | {within(attempts, TRIES)} | {listed} |"


def judging_row(asked: Sequence[Asked]) -> str:
    """Cells of the table of judging; margins in nats."""
    attempts = [each.attempts for each in asked]
    why = Counter(each.reason for each in asked if each.reason).most_common()
    cells = [within(attempts, 1), within(attempts, TRIES), ", ".join(f"{count} {reason}" for reason, count in why)]
    margins = []
    for is_positive in (True, False):
        side = [each.judgement for each in asked if each.judgement and each.pair.is_positive is is_positive]
        margins.append([judgement.margin.delta for judgement in side if judgement.margin])
        cells.append(f"{sum(judgement.label == 'yes' for judgement in side)} of {len(side)}")
    cells += [f"{fmean(side):+.2f}" if side else "-" for side in margins]
    cells.append(f"{area_under_curve(*map(np.array, margins)):.2f}" if all(margins) else "-")
    return f"{' | '.join(cells)} |"


def teacher_at(server: LlamaServer, **options: Any) -> OpenAiTeacher:
    """The teacher behind a server; on a slow machine it is waited for rather than asked twice."""
    common = {
        "model": "smollm2",
        "base_url": server.base_url,
        "max_tokens": MAX_TOKENS,
        "timeout_s": 3600,
        "attempts": 1,
    }
    return OpenAiTeacher(**{**common, **options})


def write_all(server: LlamaServer, model: str, videos: Sequence[Video], show: bool) -> None:
    """Print the table of writing, and every query where they are to be shown."""
    print("| writing | read at the first try | within three | what became of it |\n|---|---:|---:|---|")
    for name, json_schema in WAYS_TO_WRITE:
        options = teacher_at(server, model=model, json_schema=json_schema, temperature=WARM)
        teacher = options.load()
        written = [write(teacher, options, video) for video in videos]
        print(f"| {name} | {writing_row(written)}", flush=True)
        for each in written if show else ():
            print(f"  {each.video.video_id}: {each.fate}: {each.query.text if each.query else ''}")
            print(f"    {each.query.rationale if each.query else ''}")


def judge_all(server: LlamaServer, model: str, pairs: Sequence[Pair], show: bool) -> None:
    """Print the table of judging, and every reply where they are to be shown."""
    print("| judging | read at the first try | within three | first reply not read | yes of positives |", end="")
    print(" yes of others | margin of positives | of others | AUC |\n|---|---:|---:|---|---:|---:|---:|---:|---:|")
    for name, way, template in WAYS_TO_JUDGE:
        options = teacher_at(server, model=model, **way)
        teacher = options.load()
        asked = [judge(teacher, options, pair, template=template) for pair in pairs]
        print(f"| {name} | {judging_row(asked)}", flush=True)
        for each in asked if show else ():
            said = each.judgement.reply if each.judgement else each.reason
            print(f"  {each.pair.query.query_id} {each.pair.video.video_id}: {said}")


def main() -> None:
    """Print the tables as Markdown, and all that was said with ``--show``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=MODELS, default="smollm2")
    parser.add_argument("--only", choices=("writing", "judging"))
    parser.add_argument("--videos", type=int, default=10, help="that queries are written for")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    videos = scripted_videos()
    with serving(MODELS[args.model]()) as server:
        if args.only != "judging":
            write_all(server, args.model, videos[: args.videos], args.show)
        if args.only != "writing":
            judge_all(server, args.model, labelled_pairs(videos), args.show)


if __name__ == "__main__":
    main()
