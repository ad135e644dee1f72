"""SmolLM2 behind llama.cpp's server, writing and judging by the real steps: ``make test-real``.

What is asserted must hold of any model; what one as small as this is worth, ``benchmarks.real_teacher`` tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
import pytest

from benchmarks.real_teacher import judge, labelled_pairs, scripted_videos, teacher_at, write
from prompts.write_queries import reply_schema
from tests.llama_server import LlamaServer, serving
from tests.real_weights import smollm2

pytestmark = pytest.mark.real

READABLE = {"", "echoes the prompt", "wrong schema"}  # cross of one modality: the schema does not know what it needs


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaServer]:
    with serving(smollm2()) as server:
        yield server


def test_with_a_schema_every_reply_is_json_and_what_is_no_echo_becomes_a_query(server, record_property):
    engine = teacher_at(server, json_schema=True, temperature=0.7)
    written = [write(engine.load(), engine, video) for video in scripted_videos()[:2]]
    for each in written:
        record_property(f"a query for {each.video.video_id}", each.fate)

    assert {each.reason for each in written} <= READABLE
    for each in written:
        if each.query:
            jsonschema.validate(json.loads(each.query.reply), reply_schema(each.video.evidence.present, 1))
            assert each.query.attempts in (1, 2, 3)


def test_most_pairs_get_a_verdict_with_a_margin_that_agrees_with_it(server, record_property):
    engine = teacher_at(server)
    asked = [judge(engine.load(), engine, pair, tries=1) for pair in labelled_pairs(scripted_videos())[:6]]
    judgements = [each.judgement for each in asked if each.judgement]
    record_property("pairs with a verdict", f"{len(judgements)} of {len(asked)}")

    assert len(judgements) >= 3
    assert {judgement.confidence_source for judgement in judgements} == {"logprobs"}
    for judgement in judgements:
        assert judgement.margin.lo <= judgement.margin.delta <= judgement.margin.hi
        assert (judgement.margin.delta > 0) == (judgement.label == "yes")
