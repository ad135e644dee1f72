import json
import re

import msgspec
import pytest

from prompts.reply import UnparsableReply
from prompts.write_queries import Draft, parse_queries, queries_prompt, reply_schema
from schemas.query import QUERY_TYPES
from schemas.video import MODALITIES, Evidence, Metadata
from transforms.filter_queries import TextFilters

ITEM = {
    "evidence": ["asr: free until Sunday"],
    "rationale": "Joins the fare with the opening.",
    "query": "which city let people ride a new line for nothing at first",
    "query_type": "specific",
    "modalities": ["metadata", "asr"],
}
DRAFT = Draft(ITEM["query"], ITEM["rationale"], "specific", ("asr", "metadata"))


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
        json.dumps({"comment": "more keys do no harm", "queries": [{**ITEM, "difficulty": 2}]}),
    ],
)
def test_queries_are_read_bare_or_fenced_after_thoughts_and_introductions(reply):
    assert parse_queries(reply, MODALITIES) == [DRAFT]


def test_raw_line_breaks_inside_strings_are_folded_to_spaces():
    broken = reply_of(ITEM).replace("new line", "new\n line").replace("the fare", "the\tfare")

    assert parse_queries(broken, MODALITIES) == [DRAFT]


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
        *((reply_of(ITEM, without(name)), "wrong schema") for name in ITEM),
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


def test_the_schema_offers_what_was_shown():
    item = reply_schema(("asr", "caption"))["properties"]["queries"]["items"]

    assert item["properties"]["query_type"]["enum"] == ["base", "specific", "speech"]
    assert item["properties"]["modalities"]["items"]["enum"] == ["caption", "asr"]


def test_the_schema_asks_for_what_the_parser_requires_and_for_the_reason_before_the_query():
    item = reply_schema(MODALITIES)["properties"]["queries"]["items"]

    assert list(item["properties"]) == item["required"] == list(ITEM)
    assert item["properties"]["query_type"]["enum"] == list(QUERY_TYPES)
    assert item["properties"]["modalities"]["items"]["enum"] == list(MODALITIES)
    assert not item["additionalProperties"]
    msgspec.json.encode(item)


def test_the_prompt_shows_the_evidence_before_what_is_asked():
    evidence = Evidence(caption="A tram leaves.", metadata=Metadata("First ride"))
    prompt = queries_prompt(evidence, ("metadata", "caption"), "v1", 3)

    assert prompt.user.startswith("BEGIN EVIDENCE")
    assert 'caption: ["A tram leaves."]' in prompt.user
    assert "Modalities shown: caption, metadata. Query types to choose from: base, specific, text." in prompt.user
    assert "Write 3 queries" in prompt.user
    assert "Tram" not in prompt.system


def test_the_prompt_asks_for_no_query_that_is_too_short_or_too_long_for_the_filters():
    filters = TextFilters()
    asked = re.findall(r"(\d+) to (\d+) words", queries_prompt(Evidence(caption="x"), ("caption",), "v1", 1).system)

    assert len(asked) == 2
    assert all(filters.min_words <= int(least) < int(most) <= filters.max_words for least, most in asked)


def test_the_prompt_names_every_query_type_and_modality():
    prompt = queries_prompt(Evidence(caption="x"), ("caption",), "v1", 1)

    assert all(f"- {query_type}:" in prompt.system for query_type in QUERY_TYPES)
    assert all(f"{modality}:" in prompt.system for modality in MODALITIES)
