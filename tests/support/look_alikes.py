"""A query, its video, and queries that look like it."""

from __future__ import annotations

import json
from collections import Counter

import apache_beam as beam

from prompts.template import load_template
from schemas.example import Example, ExampleCandidate, NegativeQueries, NegativeQuery
from schemas.query import Judgement, Margin
from schemas.video import AsrSegment, EngineStamp
from tests.judge.test_judge import video_of
from transforms.judge.judge_pairs import JudgeOptions

STAMP = EngineStamp("scripted", "1", "", "f" * 16)


QUERY = "which bridge in Lyon did the flood of 2019 close"


VIDEO = video_of("lyon", caption="A bridge.", asr=(AsrSegment(0.0, 2.0, "the flood closed it", 0.9),))


JUDGED = Judgement("n1", "lyon", False, "no", "it is of 2019", Margin(-3.0, -3.0, -3.0), "logprobs", STAMP, "no", "")
WORDINGS = {
    name: JudgeOptions(("caption", "asr", "ocr", "metadata"), template=load_template(name))
    for name in ("judge", "judge_reworded")
}


def candidate(video_id="lyon", label=1):
    stratum = "positive" if label else "trusted_negative"
    said = "yes" if label else "no"
    return ExampleCandidate(video_id, label, stratum, said, None, None, None, None, "label_only", "", None, None)


def example_of(query=QUERY, query_id="q1"):
    candidates = (candidate(), candidate("other", 0))
    return Example(query_id, query, "train", "human", None, None, (), "", candidates)


def negative(text, edit="year", query_id="q1"):
    return NegativeQuery(NegativeQuery.id_of(query_id, text), text, edit)


def group(*negatives, example=None):
    return NegativeQueries(example or example_of(), STAMP, negatives)


def reply(*queries, reworded=""):
    written = [{"change": "c", "edit": edit, "query": text} for edit, text in queries]
    return json.dumps({"reworded": reworded, "queries": written})


def parted(outputs):
    """The main outputs, and the reasons of losses by kind."""
    main = [one for one in outputs if not isinstance(one, beam.pvalue.TaggedOutput)]
    lost = [one.value for one in outputs if isinstance(one, beam.pvalue.TaggedOutput)]
    return main, Counter((one.kind, one.stage, one.step, one.reason) for one in lost)
