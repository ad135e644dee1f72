"""Queries in the six languages of MultiVENT 2.0: what the prompt asks for, and what each filter makes of them.

The table holds queries as writers give them, most from English evidence, with what a reader who knows the language
would have a filter say.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from benchmarks.six_languages import video_ids
from pipeline.config import RecipeError, SynthesizeConfig, load_recipe
from pipeline.engines import Engines
from pipeline.outputs.report.card import render_card
from pipeline.outputs.report.report import render_report
from pipeline.outputs.report.summary import summarize
from pipeline.stage import LedgerBuilder
from pipeline.synthesize import Synthesize
from prompts.languages import LANGUAGES, in_language
from prompts.reply import UnparsableReply
from prompts.template import Template, load_template
from schemas.query import PAPERS_VARIANTS, Query
from schemas.video import AsrSegment, Box, EngineStamp, Evidence, MediaFacts, Metadata, OcrLine, Video
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from tests.support.six_languages import (
    KEPT_ALL_THE_SAME,
    PAIRS,
    SAID,
    SIGNS,
    TABLE,
    as_read,
    either_of_two,
    expected,
)
from tests.support.tiny_output import write_tiny
from transforms.journal.journal import Journal
from transforms.protocols.teacher import TeacherReply
from transforms.synthesize.filter_queries import TextFilters, reject_reason
from transforms.synthesize.wording import are_similar, wording
from transforms.synthesize.write_queries import language_of, write_queries

EVIDENCE = Evidence(
    asr=(AsrSegment(0.0, 9.0, SAID, 1.0),),
    metadata=Metadata("Kestrel 3", "\n".join(SIGNS[code][0] for code in ("zh", "ar", "ru", "es", "ko"))),
)
WRITER = EngineStamp("rules", "1", "", "0")


def query(language: str, text: str) -> Query:
    return Query(
        "q",
        "v",
        text,
        "teacher",
        "base",
        "asr",
        "because",
        ("asr",),
        WRITER,
        cited=("asr: lightning",),
        language=language,
    )


def decision(language: str, text: str) -> str | None:
    found = reject_reason(query(language, text), EVIDENCE, TextFilters())
    return found[0] if found else None


@pytest.mark.parametrize(("language", "text", "reason"), TABLE)
def test_each_filter_knows_each_language(language, text, reason):
    assert decision(language, text) == reason


def test_the_table_holds_sixty_queries_of_six_languages_and_every_filter_of_texts():
    kept, dropped = Counter(), Counter()
    for language, _, reason in TABLE:
        (dropped if reason else kept)[language] += 1

    assert kept.keys() == dropped.keys() == LANGUAGES.keys()
    assert kept.total() + dropped.total() >= 60
    assert min(kept.values()) >= 3
    reasons = {"mentions video", "wrong language", "too short", "copies evidence"}
    for language in LANGUAGES:
        assert reasons <= {reason for each, _, reason in TABLE if each == language}


@pytest.mark.parametrize(("language", "one", "other", "same"), PAIRS)
def test_near_duplicates_are_told_in_each_language(language, one, other, same):
    assert are_similar(wording(one), wording(other), 0.8) is same


@pytest.mark.parametrize("code", sorted(LANGUAGES))
@pytest.mark.parametrize("name", ["write_queries", "write_requests"])
def test_the_prompt_names_the_language_and_shows_an_example_in_it(name, code):
    template = load_template(name)

    asked = in_language(template, code)

    assert f"is in {LANGUAGES[code].name}, whatever the language of the evidence" in asked.source
    assert asked.slots == template.slots
    assert (asked == template) == (code == "en")
    assert asked.version == template.version or code != "en"
    if name == "write_queries":
        assert f'"query": "{LANGUAGES[code].example}"' in asked.source


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_an_example_of_the_prompt_is_a_query_that_the_filters_keep(code):
    assert decision(code, LANGUAGES[code].example) is None


def test_variants_take_turns_so_that_every_language_is_asked_for_about_as_often():
    languages = tuple(sorted(LANGUAGES))

    asked = Counter(language_of(f"v{n}", variant, languages) for n in range(200) for variant in PAPERS_VARIANTS)

    assert asked.keys() == LANGUAGES.keys()
    assert min(asked.values()) > 120  # of 1,000 in six languages
    assert {language_of("v", "all", ()), language_of("v", "all", ("ko",))} == {None, "ko"}


def test_a_query_is_asked_for_in_the_language_and_knows_it():
    text = "번개가 우주비행사들의 일정에 끼친 뜻밖의 영향"
    reply = {"evidence": ["asr: lightning"], "rationale": "It stops flights.", "query": text, "query_type": "speech"}
    said = json.dumps({"queries": [{**reply, "modalities": ["asr"]}]}, ensure_ascii=False)
    teacher = ScriptedTeacher(lambda _: TeacherReply(said))
    video = Video("v", "v.mp4", MediaFacts("0" * 64, 1), EVIDENCE)

    (written,) = write_queries(teacher, WRITER, video, "asr", 1, language="ko")

    assert (written.text, written.language) == (text, "ko")
    assert "is in Korean" in teacher.asked[0].prompt.system
    assert reject_reason(written, EVIDENCE, TextFilters()) is None
    assert reject_reason(replace(written, language=None), EVIDENCE, TextFilters())[0] == "wrong language"

    said = said.replace(text, LANGUAGES["ko"].example)
    with pytest.raises(UnparsableReply, match="echoes the prompt"):
        write_queries(ScriptedTeacher(lambda _: TeacherReply(said)), WRITER, video, "asr", 1, language="ko")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [("[xx]", "language must be one of"), ("[ko, ko]", "each only once")],
)
def test_languages_that_cannot_be_asked_for_are_refused(setting, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe("demo", [f"synthesize.languages={setting}"])


def test_a_prompt_of_ones_own_must_say_where_the_language_goes(tmp_path: Path):
    source = load_template("write_queries").source.replace("is in English, whatever", "is English, whatever")
    (tmp_path / "own.txt").write_text(source)
    recipe = load_recipe("demo", [f"synthesize.prompt={tmp_path / 'own.txt'}", "synthesize.languages=[en, ko]"])

    with pytest.raises(RecipeError, match=r"synthesize\.languages: the prompt write_queries must say"):
        recipe.templates()
    assert in_language(Template("own", source), "en").source == source


READ = as_read()


def in_the_language_of_its_sign(request):
    """All queries about a sign in its language, with a citation of what was read of it."""
    shown = request.evidence.ocr[0].text
    language, number = next(sign for sign, text in READ.items() if text == shown)
    draft = {
        "evidence": [f"ocr: {shown}"],
        "rationale": "It is on the sign.",
        "query_type": "ocr",
        "modalities": ["ocr"],
    }
    drafts = [{**draft, "query": text} for text in expected(language, number)]
    return TeacherReply(json.dumps({"queries": drafts}, ensure_ascii=False))


def test_of_signs_in_six_languages_a_run_keeps_and_drops_what_readers_would(tmp_path: Path):
    """Of what Tesseract read of clips, see benchmarks/six_languages.py, which runs the whole and prints a table."""
    ids = {video_id: sign for sign, video_id in video_ids().items()}
    box, facts = Box(0.1, 0.1, 0.9, 0.2), MediaFacts("0" * 64, 1)
    videos = [
        Video(video_id, video_id, facts, Evidence(ocr=(OcrLine(0.0, 3.0, READ[sign], box, 0.9),)), "pack", 1)
        for video_id, sign in ids.items()
    ]
    config = SynthesizeConfig({}, variants=("ocr",), queries_per_variant=20, languages=tuple(LANGUAGES))
    engines = Engines(None, None, None, None, ScriptedEngine(in_the_language_of_its_sign), (), None)
    ledger = LedgerBuilder()
    prompts = {"write_queries": load_template("write_queries")}

    def is_told(decided):
        found = {sign: {} for sign in ids.values()}
        for video_id, text, reason in decided:
            found[ids[video_id]][text] = reason
        wrong = {
            text: reason
            for sign in found
            for text, reason in either_of_two(found[sign], *sign).items()
            if reason != expected(*sign)[text]
        }
        assert {sign: len(texts) for sign, texts in found.items()} == {sign: len(expected(*sign)) for sign in found}
        assert wrong == dict.fromkeys(KEPT_ALL_THE_SAME)

    with closing(Journal(str(tmp_path))) as journal, beam.Pipeline("FnApiRunner") as pipeline:
        splits = [(video.video_id, "train") for video in videos]
        inputs = tuple(
            pipeline | name >> beam.Create(items)
            for name, items in (("Videos", videos), ("People's", []), ("Splits", splits))
        )
        found = inputs | Synthesize(config, engines, journal, prompts, 0, ledger)
        losses = tuple(ledger.losses) | beam.Flatten() | beam.Filter(lambda loss: loss.query_id)
        decided = (
            {
                "asked": found["written"] | "Texts" >> beam.Map(lambda one: (one.query_id, (one.video_id, one.text))),
                "why": losses | "Why" >> beam.Map(lambda loss: (loss.query_id, loss.reason)),
            }
            | beam.CoGroupByKey()
            | beam.MapTuple(lambda _, group: (*group["asked"][0], next(iter(group["why"]), None)))
        )
        assert_that(decided, is_told)


def test_report_and_card_say_what_each_language_yields(tmp_path: Path):
    manifest = write_tiny(tmp_path / "out")
    summary = summarize(str(tmp_path / "out"), manifest)
    assert summary.yields == []

    summary.asked_in.update({("ko", "kept"): 3, ("ko", "too short"): 1, ("ko", "wrong language"): 2, ("zh", "kept"): 1})

    assert summary.yields == [("ko", 3, 6, "2 wrong language, 1 too short"), ("zh", 1, 1, "")]
    assert "| ko | 3 | 6 | 2 wrong language, 1 too short |" in render_card(summary)
    page = render_report(str(tmp_path / "out"), manifest, summary)
    assert "<td>2 wrong language, 1 too short</td>" in page
