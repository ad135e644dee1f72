"""Long requests, the sixth variant: each is followed by its parts, and is held to a length of its own."""

import json
import re
from collections import Counter

import jsonschema
import pytest

from pipeline.config import load_recipe
from pipeline.recipes.errors import RecipeError
from prompts.reply import UnparsableReply
from prompts.template import load_template
from prompts.write_queries import MOST_PARTS, parse_queries, reply_schema
from schemas.check import InvalidRecord
from schemas.query import Query
from schemas.video import AsrSegment, EngineStamp, Evidence, MediaFacts, Metadata, OcrLine, Video
from tests.support.scripted_server import ScriptedServer, completion
from tests.support.scripted_teacher import ScriptedTeacher
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.engines.stand_ins.rules import Rules
from transforms.protocols.teacher import TeacherReply
from transforms.synthesize.filter_queries import TextFilters, reject_reason
from transforms.synthesize.write_queries import shown_modalities, write_queries

STAMP = EngineStamp("scripted", "1", "", "f" * 16)
EVIDENCE = Evidence(
    caption="A red tram leaves a station.",
    asr=(AsrSegment(0.0, 4.0, "The mayor of Linden opened the tram line in heavy rain.", 0.9),),
    ocr=(OcrLine(1.0, 2.0, "LINDEN CENTRAL - LINE 4", (0.1, 0.1, 0.5, 0.2), 0.8),),
    metadata=Metadata("First ride", "Passengers travelled without tickets until Sunday."),
)
TRAM = Video("tram", "/tram.mp4", MediaFacts("0" * 64, 1), EVIDENCE)
REQUEST = " ".join(["request"] * 50)
PARTS = ("a ceremony that went ahead in spite of the weather", "a weekend on which nobody had to pay")


def reply_of(text=REQUEST, parts=PARTS, query_type="specific"):
    item = {
        "evidence": ["asr: in heavy rain"],
        "rationale": "The rain did not stop it.",
        "query": text,
        "parts": [{"query": part, "query_type": "speech", "modalities": ["asr"]} for part in parts],
        "query_type": query_type,
        "modalities": ["asr", "metadata"],
        "difficulty": dict.fromkeys(_ratings(), 0),
    }
    return TeacherReply(json.dumps({"queries": [item]}))


def _ratings():
    form = reply_schema(("asr",), 1)["properties"]["queries"]["items"]["properties"]
    return form["difficulty"]["properties"]


def written(reply, count=1):
    teacher = ScriptedTeacher(lambda _: reply)
    return write_queries(teacher, STAMP, TRAM, "request", count), teacher.asked[0]


def test_a_request_is_written_from_all_there_is_and_its_parts_are_queries_of_their_own():
    (request, *parts), asked = written(reply_of())

    assert asked.task == "write_requests"
    assert asked.evidence.present == ("caption", "asr", "ocr", "metadata")
    assert asked.prompt.version == load_template("write_requests").version
    assert (request.text, request.variant, request.part_of) == (REQUEST, "request", None)
    assert request.modalities == ("asr", "metadata")
    assert request.difficulty.length == "paragraph"
    assert [part.text for part in parts] == list(PARTS)
    for part in parts:
        assert (part.part_of, part.variant, part.video_id) == (request.query_id, "request", "tram")
        assert (part.query_type, part.modalities) == ("speech", ("asr",))
        assert (part.rationale, part.cited) == (request.rationale, request.cited)
        assert part.difficulty.rated is None  # its writer rated the whole


def test_one_modality_is_enough_to_write_a_request_from():
    assert shown_modalities(Evidence(caption="A tram."), "request") == ("caption",)
    assert shown_modalities(Evidence(), "request") == ()


def test_a_part_that_says_what_its_request_or_another_part_says_is_not_written_twice():
    queries, _ = written(reply_of(parts=(REQUEST, PARTS[0], PARTS[0])))

    assert [query.text for query in queries] == [REQUEST, PARTS[0]]


def test_a_part_is_held_to_what_a_query_is_held_to():
    (example,) = re.findall(r'"query": "(pier at [^"]*)"', load_template("write_requests").source)
    for parts, reason in (((example,), "echoes the prompt"), (("",), "wrong schema")):
        with pytest.raises(UnparsableReply) as error:
            parse_queries(reply_of(parts=parts).text, ("asr", "metadata"), load_template("write_requests"))
        assert error.value.reason == reason


def test_only_requests_are_part_of_nothing_and_only_their_parts_of_them():
    with pytest.raises(InvalidRecord, match="part of a request or event alone"):
        Query("q", "tram", "what", "teacher", "specific", "asr", writer=STAMP, part_of="q-1")
    with pytest.raises(InvalidRecord, match="not of itself"):
        Query("q", "tram", "what", "teacher", "specific", "request", writer=STAMP, part_of="q")


@pytest.mark.parametrize(("count", "reason"), [(39, "too short"), (40, None), (150, None), (151, "too long")])
def test_a_request_has_a_length_of_its_own(count, reason):
    text = " ".join(f"word{number}" for number in range(count))
    (request,), _ = written(reply_of(text, parts=()))
    found = reject_reason(request, EVIDENCE, TextFilters())

    assert (found[0] if found and found[0].startswith("too") else None) == reason


def test_its_parts_have_the_length_of_queries():
    (_, part), _ = written(reply_of(parts=(" ".join(["word"] * 61),)))

    assert reject_reason(part, EVIDENCE, TextFilters())[0] == "too long"


def test_the_schema_has_parts_between_the_request_and_its_type_and_takes_the_prompts_own_example():
    form = reply_schema(("asr", "ocr"), 1, requests=True)
    properties = list(form["properties"]["queries"]["items"]["properties"])
    example = json.loads(re.search(r'^{"queries": .*}$', load_template("write_requests").source, re.M)[0])

    assert properties.index("query") + 1 == properties.index("parts") == properties.index("query_type") - 1
    assert form["properties"]["queries"]["items"]["properties"]["parts"]["maxItems"] == MOST_PARTS
    jsonschema.validate(example, form)
    (request,) = parse_queries(json.dumps(example), ("asr", "ocr"), load_template("judge"))
    assert 40 <= len(request.text.split()) <= 150
    assert len(request.parts) == 2
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example, reply_schema(("asr", "ocr"), 1))


def test_a_server_is_asked_for_requests_by_their_own_schema():
    with ScriptedServer(lambda asked: completion(reply_of().text)) as server:
        engine = OpenAiTeacher(model="m", base_url=server.base_url)
        queries = write_queries(engine.load(), STAMP, TRAM, "request", 1)
        (asked,) = server.asked

    assert len(queries) == 3
    sent = asked.body["response_format"]["json_schema"]["schema"]
    assert sent == reply_schema(EVIDENCE.present, 1, requests=True)


def test_the_rules_write_requests_that_the_filters_keep():
    queries = write_queries(Rules().load(), Rules().stamp(), TRAM, "request", 1)
    reasons = Counter((reject_reason(query, EVIDENCE, TextFilters()) or ("kept",))[0] for query in queries)

    assert [query.part_of for query in queries] == [None, queries[0].query_id, queries[0].query_id]
    assert reasons == {"kept": 3}


def test_its_prompt_belongs_to_a_run_whose_recipe_has_the_variant(tmp_path):
    assert "write_requests" not in load_recipe("demo").templates()
    more = "synthesize.variants=[all, request]"
    recipe = load_recipe("demo", [more])
    assert recipe.templates()["write_requests"] == load_template("write_requests")
    assert recipe.synthesize.queries_a_video == recipe.synthesize.queries_per_variant * (2 + MOST_PARTS)
    own = tmp_path / "own.txt"
    own.write_text("Ask.\n---\n{{evidence}}")
    with pytest.raises(RecipeError, match=r"recipe key synthesize.request_prompt: .* must have the .*slots"):
        load_recipe("demo", [more, f"synthesize.request_prompt={own}"]).templates()
