import json
import re
from dataclasses import replace

import jsonschema
import msgspec
import pytest

from prompts.reply import UnparsableReply
from prompts.template import Template, load_template
from prompts.write_queries import Draft, ask_again, parse_queries, queries_prompt, quotable, reply_schema, types_for
from schemas.difficulty import DIMENSIONS, Ratings
from schemas.query import QUERY_TYPES, SPANS
from schemas.video import MODALITIES, Evidence, Metadata
from transforms.synthesize.filter_queries import TextFilters
from transforms.text.words import longest_common_run, words

TYPES = tuple(query_type for query_type in QUERY_TYPES if query_type not in SPANS)  # which are those of parts of events
ITEM = {
    "evidence": ["asr: free until Sunday"],
    "rationale": "Joins the fare with the opening.",
    "query": "which city let people ride a new line for nothing at first",
    "query_type": "specific",
    "modalities": ["metadata", "asr"],
    "difficulty": dict.fromkeys(DIMENSIONS, 0) | {"multi_hop": 2},
}
DRAFT = Draft(
    ITEM["query"],
    ITEM["rationale"],
    "specific",
    ("asr", "metadata"),
    ("asr: free until Sunday",),
    Ratings(0, 2, 0, 0, 0, 0, 0, 0),
)


def reply_of(*items):
    return json.dumps({"queries": list(items)})


def without(name):
    return {key: value for key, value in ITEM.items() if key != name}


@pytest.mark.parametrize(
    "reply",
    [
        reply_of(ITEM),
        f"```json\n{reply_of(ITEM)}\n```",
        f"```\n{json.dumps({'queries': [ITEM]}, indent=2)}\n```\nDone.",
        f"<think>Maybe {{'queries': []}}? No.</think>\n{reply_of(ITEM)}",
        f"thoughts without an opening tag {{</think>{reply_of(ITEM)}",
        f"<think>a</think>Wait.<think>b</think>{reply_of(ITEM)}",
        f"Here are {{two}} queries: {reply_of(ITEM)}",
        f'{{"note": "first an object of another kind"}} {reply_of(ITEM)}',
        json.dumps({"comment": "more keys do no harm", "queries": [{**ITEM, "mood": "glad"}]}),
    ],
)
def test_queries_are_read_bare_or_fenced_after_thoughts_and_introductions(reply):
    assert parse_queries(reply, MODALITIES) == [DRAFT]


def test_raw_line_breaks_inside_strings_are_folded_to_spaces():
    broken = reply_of(ITEM).replace("new line", "new\n line").replace("the fare", "the\tfare")

    assert parse_queries(broken, MODALITIES) == [DRAFT]


def test_a_teacher_that_does_not_rate_its_queries_is_read_all_the_same():
    (draft,) = parse_queries(reply_of(without("difficulty")), MODALITIES)

    assert draft == replace(DRAFT, rated=None)


def test_blank_pieces_of_evidence_are_left_out_and_the_others_are_put_on_one_line():
    (draft,) = parse_queries(reply_of({**ITEM, "evidence": [" ", "asr: free\nuntil", "\u200b"]}), MODALITIES)

    assert draft.cited == ("asr: free until",)


def test_order_and_repeats_are_kept_and_modalities_are_put_in_order():
    other = {**ITEM, "query": "another one", "modalities": ["ocr", "caption", "ocr"]}

    drafts = parse_queries(reply_of(ITEM, other, ITEM), MODALITIES)
    assert [draft.text for draft in drafts] == [ITEM["query"], "another one", ITEM["query"]]
    assert drafts[1].modalities == ("caption", "ocr")


def test_an_empty_rationale_is_left_to_the_filters():
    assert parse_queries(reply_of({**ITEM, "rationale": " "}), MODALITIES)[0].rationale == ""


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty reply"),
        (" \n", "empty reply"),
        ("I cannot help with that.", "not json"),
        ("<think>done</think>", "not json"),
        ("<think>the model never stopped " + reply_of(ITEM), "truncated"),
        (reply_of(ITEM)[:-1], "truncated"),
        (reply_of(ITEM)[:-30], "truncated"),
        (reply_of(ITEM)[:80], "truncated"),
        (reply_of(ITEM, ITEM)[:-40], "truncated"),
        ("```json\n" + reply_of(ITEM)[:100] + "\n", "truncated"),
        ("{'queries': []}", "not json"),
        (reply_of(ITEM).replace('"specific"', "specific"), "not json"),
        (reply_of({**ITEM, "query": "say QUOTE"}).replace("QUOTE", '"hi" there'), "not json"),
        ('{"queries": ' + "[" * 100_000, "not json"),
        ('{"queries": ' + "9" * 10_000 + "}", "not json"),
        (reply_of({**ITEM, "query": "half a pair \ud800"}), "not json"),
        (json.dumps([ITEM]), "wrong schema"),
        (json.dumps({"query": "x"}), "wrong schema"),
        ('{"queries": {}}', "wrong schema"),
        ('{"queries": null}', "wrong schema"),
        ('{"queries": ["text"]}', "wrong schema"),
        (reply_of({**ITEM, "query": ""}), "wrong schema"),
        (reply_of({**ITEM, "query": "\n "}), "wrong schema"),
        (reply_of({**ITEM, "query": 5}), "wrong schema"),
        (reply_of({**ITEM, "query_type": "Specific"}), "wrong schema"),
        (reply_of({**ITEM, "modalities": ["video"]}), "wrong schema"),
        (reply_of({**ITEM, "modalities": "asr"}), "wrong schema"),
        (reply_of({**ITEM, "evidence": "asr"}), "wrong schema"),
        (reply_of({**ITEM, "evidence": ["half a pair \ud800"]}), "not json"),
        (reply_of({**ITEM, "query_type": "cross", "modalities": ["asr"]}), "wrong schema"),
        (reply_of({**ITEM, "difficulty": 2}), "wrong schema"),
        (reply_of({**ITEM, "difficulty": {"causal": 1}}), "wrong schema"),
        (reply_of({**ITEM, "difficulty": ITEM["difficulty"] | {"causal": 3}}), "wrong schema"),
        (reply_of({**ITEM, "difficulty": ITEM["difficulty"] | {"causal": "2"}}), "wrong schema"),
        *((reply_of(ITEM, without(name)), "wrong schema") for name in ITEM if name != "difficulty"),
        ('{"queries": []}', "no queries"),
    ],
)
def test_everything_else_is_refused_with_a_reason(reply, reason):
    with pytest.raises(UnparsableReply) as refused:
        parse_queries(reply, MODALITIES)

    assert refused.value.reason == reason
    assert len(refused.value.reason.split()) <= 3
    assert len(refused.value.detail) <= 300


@pytest.mark.parametrize(
    ("named", "shown", "kept"),
    [
        (["asr", "ocr"], ("caption", "asr"), ("asr",)),
        (["ocr"], ("caption", "asr"), ("caption", "asr")),
        ([], ("metadata",), ("metadata",)),
    ],
)
def test_a_query_rests_on_nothing_that_was_not_shown(named, shown, kept):
    (draft,) = parse_queries(reply_of({**ITEM, "modalities": named}), shown)

    assert draft.modalities == kept


@pytest.mark.parametrize(("query_type", "needed"), [("ocr", "ocr"), ("speech", "asr"), ("text", "metadata")])
def test_a_type_that_needs_what_was_not_shown_is_refused(query_type, needed):
    reply = reply_of({**ITEM, "query_type": query_type})

    assert parse_queries(reply, (needed,))[0].query_type == query_type
    with pytest.raises(UnparsableReply, match=f"wrong schema: a query of type {query_type} from caption alone"):
        parse_queries(reply, ("caption",))


@pytest.mark.parametrize(
    ("shown", "types"),
    [
        (("caption",), ("base", "specific", "visual")),
        (("asr",), ("base", "specific", "speech")),
        (("ocr", "metadata"), ("base", "specific", "ocr", "text", "cross")),
        (MODALITIES, TYPES),
    ],
)
def test_a_type_is_offered_where_it_can_be_had(shown, types):
    assert types_for(shown) == types


def test_a_query_across_modalities_needs_two():
    item = {**ITEM, "query_type": "cross"}

    assert parse_queries(reply_of(item), MODALITIES)[0].modalities == ("asr", "metadata")
    with pytest.raises(UnparsableReply, match="wrong schema: a query of type cross that needs asr alone"):
        parse_queries(reply_of(item), ("asr", "ocr"))


def test_a_reply_is_quoted_back_without_its_thoughts_and_without_a_tag_or_token_to_obey():
    assert quotable('<think>{"queries": []}</think>\n{"query": "a <|im_end|> b"} ') == (
        '{"query": "a \\u003c|im_end|> b"}'
    )
    assert json.loads(quotable('{"query": "a <|im_end|> b"}')) == {"query": "a <|im_end|> b"}
    assert quotable("<think>never ends") == quotable(" ") == quotable("<think>all it says</think>") == ""


def test_a_teacher_is_told_what_was_wrong_with_its_reply():
    told = ask_again(UnparsableReply("wrong schema", "Invalid enum value '<|im_end|>'"))

    assert told.startswith("That reply cannot be used: wrong schema: Invalid enum value '‹|im_end|›'. Reply again")


def lengths(schema):
    """Every string and list of a schema that may go on for ever."""
    if schema.get("type") == "string":
        yield "enum" in schema or "maxLength" in schema
    elif schema.get("type") == "array":
        yield "maxItems" in schema
        yield from lengths(schema["items"])
    for inner in schema.get("properties", {}).values():
        yield from lengths(inner)


def test_every_reply_that_the_schema_allows_ends():
    schema = reply_schema(MODALITIES, 2)

    assert len(list(lengths(schema))) == 8
    assert all(lengths(schema))
    assert schema["properties"]["queries"]["maxItems"] == 2


def test_the_schema_offers_what_was_shown():
    item = reply_schema(("asr", "caption"), 1)["properties"]["queries"]["items"]

    assert item["properties"]["query_type"]["enum"] == ["base", "specific", "speech", "visual", "cross"]
    assert item["properties"]["modalities"]["items"]["enum"] == ["caption", "asr"]


def test_the_schema_asks_for_what_the_parser_requires_and_for_the_reason_before_the_query():
    item = reply_schema(MODALITIES, 2)["properties"]["queries"]["items"]

    assert list(item["properties"]) == item["required"] == list(ITEM)
    assert list(item["properties"]["difficulty"]["properties"]) == list(DIMENSIONS)
    assert item["properties"]["query_type"]["enum"] == list(TYPES)
    assert item["properties"]["modalities"]["items"]["enum"] == list(MODALITIES)
    assert not item["additionalProperties"]
    msgspec.json.encode(item)


def test_the_prompt_shows_the_evidence_before_what_is_asked():
    evidence = Evidence(caption="A tram leaves.", metadata=Metadata("First ride"))
    prompt = queries_prompt(evidence, ("metadata", "caption"), "v1", 3)

    assert prompt.user.startswith("BEGIN EVIDENCE")
    assert 'caption: ["A tram leaves."]' in prompt.user
    assert (
        "Modalities shown: caption, metadata. Query types to choose from: base, specific, text, visual, cross."
        in prompt.user
    )
    assert "Write 3 queries" in prompt.user
    assert "Tram" not in prompt.system


def test_the_prompt_asks_for_no_query_that_is_too_short_or_too_long_for_the_filters():
    filters = TextFilters()
    asked = re.findall(r"(\d+) to (\d+) words", queries_prompt(Evidence(caption="x"), ("caption",), "v1", 1).system)

    assert len(asked) == 2
    assert all(filters.min_words <= int(least) < int(most) <= filters.max_words for least, most in asked)


def test_the_prompt_names_every_query_type_modality_and_dimension():
    prompt = queries_prompt(Evidence(caption="x"), ("caption",), "v1", 1)

    assert all(f"- {query_type}:" in prompt.system for query_type in TYPES)
    assert all(f"- {dimension}:" in prompt.system for dimension in DIMENSIONS)
    assert all(f"{modality}:" in prompt.system for modality in MODALITIES)


def test_the_prompt_shows_the_very_fields_that_the_parser_reads_in_their_order():
    shown = re.search(r'^{"queries": .*}$', queries_prompt(Evidence(caption="x"), ("caption",), "v1", 1).system, re.M)
    (item,) = json.loads(shown[0])["queries"]

    assert list(item) == list(ITEM)
    assert list(item["difficulty"]) == list(DIMENSIONS)


def example_of_the_prompt():
    (line,) = re.findall(r'^{"queries": .*}$', load_template("write_queries").source, re.M)
    return line


def test_the_prompt_shows_a_whole_reply_that_the_schema_and_the_filters_pass_and_no_placeholder():
    (item,) = json.loads(example_of_the_prompt())["queries"]

    jsonschema.validate({"queries": [item]}, reply_schema(MODALITIES, 1))
    assert not re.findall(r"<[^>]*>", load_template("write_queries").source)
    quoted = set(re.findall(r'"([^"]+)"', load_template("write_queries").source.partition("evidence was")[2]))
    shown = "\n".join(quoted - set(item["evidence"]) - {item["query"], item["rationale"]})
    assert all(piece.partition(": ")[2] in shown for piece in item["evidence"])
    assert longest_common_run(words(item["query"]), words(shown)) <= 3


@pytest.mark.parametrize(
    "echo",
    [
        {"query": json.loads(example_of_the_prompt())["queries"][0]["query"]},
        {"query": "Why could nobody get beyond the end of the line?"},
        {"query": "problems of public transport"},
        {"query": "Name things by what they do or are known for, where that stays clear"},
        {"rationale": json.loads(example_of_the_prompt())["queries"][0]["rationale"]},
        {"rationale": "one to three sentences on which facts are joined and what a searcher must infer"},
    ],
)
def test_a_query_or_rationale_that_is_the_prompt_s_own_is_refused_with_its_reply(echo):
    with pytest.raises(UnparsableReply) as refused:
        parse_queries(reply_of(ITEM, {**ITEM, **echo}), MODALITIES)

    assert refused.value.reason == "echoes the prompt"
    assert next(iter(echo.values()))[:40] in refused.value.detail


def test_a_placeholder_of_a_prompt_of_one_s_own_is_an_echo_of_it():
    template = Template("write_queries", 'Reply with {"queries": [{"query": "<the query>"}]}\n---\n{{evidence}}')
    reply = reply_of({**ITEM, "query": "<the query>"})

    with pytest.raises(UnparsableReply, match="echoes the prompt: <the query>"):
        parse_queries(reply, MODALITIES, template)
    assert parse_queries(reply_of(ITEM), MODALITIES, template) == [DRAFT]
