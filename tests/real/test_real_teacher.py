"""SmolLM2 behind llama.cpp's server, writing and judging by the real steps: ``make test-real``.

What is asserted must hold of any model; what one as small as this is worth, ``benchmarks.real_teacher`` tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
import pytest

from benchmarks.real_teacher import HELD, judge, labelled_pairs, scripted_videos, teacher_at, write
from prompts.write_queries import reply_schema
from tests.support.llama_server import LlamaServer, serving
from tests.support.real_weights import smollm2

pytestmark = pytest.mark.real

# A query across modalities that names one is the wrong schema, which no schema can say.
JSON_ALL_THE_SAME = {"", "echoes the prompt", "wrong schema", "truncated"}


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaServer]:
    with serving(smollm2()) as server:
        yield server


def test_with_a_schema_every_reply_is_json_and_what_is_no_echo_becomes_a_query(server, record_property):
    engine = teacher_at(server, json_schema=True, temperature=0.7)
    written = [write(engine.load(), engine, video) for video in scripted_videos()[:1]]
    for each in written:
        record_property(f"a query for {each.video.video_id}", each.fate)

    assert {each.reason for each in written} <= JSON_ALL_THE_SAME
    for each in written:
        if each.query:
            jsonschema.validate(json.loads(each.query.reply), reply_schema(each.video.evidence.present, 1))
            assert each.query.attempts in (1, 2, 3)


def test_held_to_the_form_every_pair_gets_a_verdict_with_a_margin_that_agrees_with_it(server, record_property):
    engine = teacher_at(server, extra_body=HELD)
    asked = [judge(engine.load(), engine, pair, tries=1) for pair in labelled_pairs(scripted_videos())[:4]]
    judgements = [each.judgement for each in asked if each.judgement]
    for each in judgements:
        record_property(f"{each.query_id} {each.video_id}", f"{each.label} {each.margin.delta:+.2f}")

    assert len(judgements) == len(asked)
    assert {judgement.confidence_source for judgement in judgements} == {"logprobs"}
    for judgement in judgements:
        assert judgement.margin.lo <= judgement.margin.delta <= judgement.margin.hi
        assert (judgement.margin.delta > 0) == (judgement.label == "yes")
