"""Characters that nobody sees do not reach tables, manifests or ids."""

import json

import msgspec
import pytest

from pipeline.human import read_human_queries
from prompts.judge import parse_verdict
from prompts.reply import UnparsableReply
from prompts.write_queries import parse_queries
from schemas.check import InvalidRecord
from schemas.query import Query
from schemas.tables import row_of
from schemas.video import (
    MODALITIES,
    ManifestEntry,
)
from schemas.visible import one_line
from tests.support.scripted_teacher import ScriptedTeacher
from tests.support.untrusted import BOX, DIRTY, HONEST, MARK, REPLY, STAMP, assert_visible, pair_of, video_of
from transforms.extract.list_input import list_input
from transforms.extract.recognize import merge_lines
from transforms.judge.judge_pairs import JudgeOptions, judge_pair
from transforms.protocols.screen_text import TextBox
from transforms.protocols.teacher import TeacherReply
from transforms.synthesize.write_queries import write_queries


def test_queries_and_judgements_reach_the_tables_without_what_is_not_seen():
    item = {
        "evidence": [],
        "rationale": f"why {DIRTY}",
        "query": f"which tram {DIRTY} left the depot",
        "query_type": "base",
        "modalities": ["caption"],
    }
    writing = ScriptedTeacher(lambda _: TeacherReply(json.dumps({"queries": [item]}, ensure_ascii=False)))
    judging = ScriptedTeacher(lambda _: TeacherReply(f"<think>why {DIRTY}</think><answer>no</answer>{DIRTY}"))

    [query] = write_queries(writing, STAMP, video_of(HONEST), "all", 2)
    judgement = judge_pair(judging, STAMP, pair_of(HONEST, "a tram"), JudgeOptions(MODALITIES))

    assert_visible([row_of(query), row_of(judgement)])
    assert MARK in query.text
    assert MARK in judgement.rationale


@pytest.mark.parametrize("reply", [DIRTY, f"<think>a</think><answer>{DIRTY}</answer>", f'{{"queries": "{DIRTY}"}}'])
def test_the_detail_of_a_rejection_shows_only_what_is_seen(reply):
    for parse in (parse_verdict, lambda text: parse_queries(text, MODALITIES)):
        with pytest.raises(UnparsableReply) as refused:
            parse(reply)
        assert_visible([refused.value.reason, refused.value.detail])


def test_a_query_type_that_is_an_attack_is_quoted_without_what_is_not_seen():
    with pytest.raises(UnparsableReply) as refused:
        parse_queries(REPLY.replace('"base"', '"\\u001b[31m\\u202e"'), MODALITIES)

    assert refused.value.reason == "wrong schema"
    assert_visible(refused.value.detail)


def test_manifests_and_side_cars_lose_what_is_not_seen(tmp_path):
    metadata = dict.fromkeys(("title", "description", "language", "published", "event"), f"a{DIRTY}\nb")
    (tmp_path / "list.jsonl").write_text(json.dumps({"uri": "a.mp4", **metadata}))
    (tmp_path / "b.mp4").touch()
    (tmp_path / "b.json").write_text(json.dumps(metadata))

    listed = [*list_input(str(tmp_path / "list.jsonl")).entries, *list_input(str(tmp_path)).entries]

    assert len(listed) == 2
    for entry in listed:
        assert_visible(msgspec.to_builtins(entry.metadata))
        assert "\n" in entry.metadata.description
        assert "\n" not in entry.metadata.title + entry.metadata.event


def test_a_side_car_that_nests_too_deeply_costs_its_metadata_only(tmp_path):
    (tmp_path / "\x1b[31m.mp4").touch()
    (tmp_path / "\x1b[31m.json").write_text("[" * 100_000)

    [entry] = list_input(str(tmp_path)).entries

    assert entry.warnings[0].reason == "unreadable side-car"
    assert_visible(entry.warnings[0].message)


@pytest.mark.parametrize("character", ["\x1b", "\u202e", "\u200b", "\u3164", "\n", "\U000e0041"])
def test_an_id_holds_no_character_that_is_not_seen(character):
    with pytest.raises(InvalidRecord, match="video_id must hold no white space"):
        ManifestEntry("a.mp4", f"a{character}b")
    with pytest.raises(InvalidRecord, match="query_id must hold visible"):
        Query(f"a{character}b", "v1", "text", "human")


def test_queries_that_people_wrote_are_read_without_what_is_not_seen(tmp_path):
    queries, qrels = tmp_path / "queries.tsv", tmp_path / "qrels.trec"
    queries.write_text("q1\ta \u202etram\u200b that leaves\x1b\n")
    qrels.write_text("q1 0 v1 1\n")

    [human] = read_human_queries(str(queries), str(qrels))
    assert human.text == "a tram that leaves"

    queries.write_text("q1\t\u200b\u202e\n")
    with pytest.raises(ValueError, match="query 'q1' has no visible text"):
        read_human_queries(str(queries), str(qrels))


def test_recognised_text_loses_what_is_not_seen():
    [line] = merge_lines([(0.0, [TextBox(f"EXIT{DIRTY}", BOX, 0.9)])])

    assert_visible(line.text)
    assert line.text.startswith("EXIT")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("👩\u200d🔬 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3", "👩\u200d🔬 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3"),
        ("ig\u200dnore\u200c this\u200d", "ignore this"),
        ("a\ufe0fb ❤\ufe0f\ufe0f\ufe0e", "ab ❤\ufe0f"),
        ("\u200dک \ufe0f", "ک"),
    ],
)
def test_joiners_stay_only_where_a_script_or_an_emoji_needs_them(text, kept):
    assert one_line(text) == kept
    assert one_line(kept) == kept
