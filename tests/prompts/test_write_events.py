"""Events taken apart: a query for the whole, and one each for what was before, during and after it."""

import json
import re
from collections import Counter

import jsonschema
import pytest

from pipeline.config import RecipeError, load_recipe
from prompts.languages import in_language
from prompts.reply import UnparsableReply
from prompts.template import load_template
from prompts.write_queries import MOST_PARTS, parse_queries, reply_schema, types_for
from schemas.check import InvalidRecord
from schemas.query import PAPERS_VARIANTS, SPANS, Query
from tests.prompts.test_write_requests import EVIDENCE, STAMP, TRAM, reply_of
from tests.support.scripted_teacher import ScriptedTeacher
from transforms.engines.stand_ins.rules import Rules
from transforms.protocols.teacher import TeacherReply
from transforms.synthesize.filter_queries import TextFilters, reject_reason
from transforms.synthesize.write_queries import shown_modalities, write_queries

WHOLE = "how a town got its new line in spite of the weather"
PARTS = {
    "before": "what a town wanted before anybody could ride across it",
    "during": "a ceremony that went ahead although everybody got wet",
    "after": "a weekend on which nobody had to pay",
}


def reply(parts=PARTS, query_type="specific"):
    (item,) = json.loads(reply_of(WHOLE, query_type=query_type).text)["queries"]
    item["parts"] = [{"query": text, "query_type": span, "modalities": ["asr"]} for span, text in parts.items()]
    return json.dumps({"queries": [item]})


def test_an_event_is_written_from_all_there_is_and_each_span_of_it_is_a_query_of_its_own():
    teacher = ScriptedTeacher(lambda _: TeacherReply(reply()))
    whole, *parts = write_queries(teacher, STAMP, TRAM, "event", 1)
    (asked,) = teacher.asked

    assert asked.task == "write_events"
    assert asked.evidence.present == ("caption", "asr", "ocr", "metadata") == shown_modalities(EVIDENCE, "event")
    assert asked.prompt.version == load_template("write_events").version
    assert (whole.text, whole.variant, whole.query_type, whole.part_of) == (WHOLE, "event", "specific", None)
    assert [(part.query_type, part.text) for part in parts] == list(PARTS.items())
    assert {(part.variant, part.part_of) for part in parts} == {("event", whole.query_id)}
    assert [reject_reason(query, EVIDENCE, TextFilters()) for query in (whole, *parts)] == [None] * 4


@pytest.mark.parametrize("span", SPANS)
def test_a_span_may_be_left_out(span):
    (whole,) = parse_queries(
        reply({span: PARTS[span]}), ("asr", "metadata"), load_template("write_events"), events=True
    )

    assert [part.query_type for part in whole.parts] == [span]


def test_parts_of_an_event_are_of_a_span_each_and_nothing_else_is():
    shown, asked = ("asr", "metadata"), load_template("write_events")
    twice = reply({"before": "one of them asks this", "after": "two of them ask this"}).replace("after", "before")
    for said, message in (
        (twice, "parts of an event that are before, before"),
        (
            reply({"speech": "what somebody says of it all"}),
            "is before, during or after, and no other query is, got speech",
        ),
        (reply(query_type="during"), "is before, during or after, and no other query is, got during"),
    ):
        with pytest.raises(UnparsableReply, match=f"wrong schema: .*{message}"):
            parse_queries(said, shown, asked, events=True)
    with pytest.raises(UnparsableReply, match="wrong schema"):  # of a request
        parse_queries(reply(), shown, load_template("write_requests"))
    assert not set(SPANS).intersection(types_for(shown))
    with pytest.raises(InvalidRecord, match="is part of an event"):
        Query("q", "tram", "what", "teacher", "before", "event", writer=STAMP)
    with pytest.raises(InvalidRecord, match="is part of an event"):
        Query("q", "tram", "what", "teacher", "before", "request", writer=STAMP, part_of="q-1")


def test_the_schema_has_a_span_for_each_part_and_takes_the_prompts_own_example():
    form = reply_schema(("asr", "ocr"), 1, events=True)
    example = json.loads(re.search(r'^{"queries": .*}$', load_template("write_events").source, re.M)[0])

    parts = form["properties"]["queries"]["items"]["properties"]["parts"]
    assert parts["items"]["properties"]["query_type"]["enum"] == list(SPANS)
    assert parts["maxItems"] == len(SPANS) == MOST_PARTS
    jsonschema.validate(example, form)
    (event,) = parse_queries(json.dumps(example), ("asr", "ocr"), load_template("judge"), events=True)
    assert [part.query_type for part in event.parts] == list(SPANS)
    for other in (reply_schema(("asr", "ocr"), 1), reply_schema(("asr", "ocr"), 1, requests=True)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(example, other)
    with pytest.raises(UnparsableReply, match="echoes the prompt"):
        parse_queries(json.dumps(example), ("asr", "ocr"), load_template("write_events"), events=True)


def test_it_can_be_asked_for_in_another_language():
    asked = in_language(load_template("write_events"), "ko")

    assert "is in Korean, whatever the language of the evidence" in asked.source
    assert asked.slots == load_template("write_queries").slots


def test_the_rules_write_events_that_the_filters_keep():
    queries = write_queries(Rules().load(), Rules().stamp(), TRAM, "event", 1)
    reasons = Counter((reject_reason(query, EVIDENCE, TextFilters()) or ("kept",))[0] for query in queries)

    assert [query.query_type for query in queries] == ["specific", *SPANS]
    assert reasons == {"kept": 4}


def test_its_prompt_belongs_to_a_run_whose_recipe_has_the_variant_and_its_parts_are_foreseen():
    assert "write_events" not in load_recipe("demo").templates()
    assert "event" not in PAPERS_VARIANTS
    recipe = load_recipe("demo", ["synthesize.variants=[all, event, request]", "synthesize.languages=[en, ko]"])

    assert recipe.templates()["write_events"] == load_template("write_events")
    assert recipe.synthesize.queries_a_video == recipe.synthesize.queries_per_variant * (3 + 2 * MOST_PARTS)


def test_a_file_takes_the_place_of_its_prompt_if_it_has_the_same_slots(tmp_path):
    own, settings = tmp_path / "own.txt", ["synthesize.variants=[all, event]"]
    settings.append(f"synthesize.event_prompt={own}")
    own.write_text(load_template("write_events").source + "Be brief.\n")
    templates = load_recipe("demo", settings).templates()

    assert templates["write_events"].source.endswith("Be brief.\n")
    assert templates["write_queries"] == load_template("write_queries")
    own.write_text("Ask.\n---\n{{evidence}}")
    with pytest.raises(RecipeError, match=r"recipe key synthesize\.event_prompt: .* must have the .*slots"):
        load_recipe("demo", settings).templates()
