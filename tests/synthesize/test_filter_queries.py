from dataclasses import replace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.check import InvalidRecord
from schemas.difficulty import Difficulty
from schemas.losses import Loss
from schemas.query import EvidenceCut, Query, QueryType
from schemas.video import AsrSegment, EngineStamp, Evidence, MediaFacts, Metadata, Video
from transforms.synthesize.filter_queries import FilterQueries, TextFilters, mentions_video, reject_reason

WRITER = EngineStamp("rules", "1", "", "0")
TEN_WORDS = "engineers cancelled the rocket launch because sensors reported falling pressure"
EVIDENCE = Evidence(
    caption="a rocket stands on a pad while people wait",
    asr=(AsrSegment(0, 4, "engineers cancelled the rocket launch because", 0.9), AsrSegment(4, 8, "of wind", 0.9)),
    metadata=Metadata(title="Launch day", description=TEN_WORDS),
)


CITED = ("asr: cancelled the rocket launch",)


def query(
    text: str,
    rationale: str = "The delay follows from the reading.",
    query_id: str = "q-1",
    cited: tuple[str, ...] = CITED,
    query_type: QueryType = "specific",
    lexical_gap: float = 1.0,
) -> Query:
    return Query(
        query_id,
        "v-1",
        text,
        "teacher",
        query_type,
        "asr",
        rationale,
        ("asr",),
        WRITER,
        cited=cited,
        difficulty=Difficulty(None, 1, lexical_gap, "sentence"),
    )


def reason(text: str, evidence: Evidence = EVIDENCE, filters: TextFilters | None = None, **kwargs: Any) -> str | None:
    found = reject_reason(query(text, **kwargs), evidence, filters or TextFilters())
    return found and found[0]


GOOD = "which reading made engineers postpone a launch"


def test_a_good_query_passes_every_filter():
    assert reject_reason(query("which reading made engineers postpone a launch"), EVIDENCE, TextFilters()) is None


@pytest.mark.parametrize(
    ("count", "expected"), [(1, "too short"), (3, "too short"), (4, None), (60, None), (61, "too long")]
)
def test_length_is_bounded_in_words_both_ends_included(count: int, expected: str | None):
    assert reason("launch " * count) == expected


@pytest.mark.parametrize("rationale", ["", "  \n", "...", "--"])
def test_a_rationale_without_words_is_empty(rationale: str):
    assert reason("which reading made engineers postpone a launch", rationale=rationale) == "empty rationale"


def test_up_to_eight_words_in_a_row_may_be_copied_and_nine_may_not():
    start = TEN_WORDS.split()
    assert reason(" ".join([*start[:8], "today", "again"])) is None
    assert reject_reason(query(" ".join([*start[:9], "today"])), EVIDENCE, TextFilters()) == (
        "copies evidence",
        "9 words in a row from metadata, at most 8",
    )


def test_a_copy_ignores_case_and_punctuation():
    assert reason("ENGINEERS, cancelled the rocket launch: because sensors 'reported' falling!") == "copies evidence"


def test_runs_do_not_continue_from_one_modality_into_the_next():
    filters = TextFilters(max_copied_words=6)
    across = "people wait engineers cancelled the rocket launch"  # 2 words of the caption, then 5 of the speech
    assert reason(across, filters=filters) is None
    spoken = "engineers cancelled the rocket launch because of wind"  # two segments of one modality
    assert reason(spoken, filters=filters) == "copies evidence"


@pytest.mark.parametrize(
    "text",
    [
        "what does the video say about floods",
        "Which video shows the flooded bridge",
        "a video of the flooded bridge",
        "find footage of the flooded bridge",
        "Find the video where the bridge falls",
        "who appears in this clip near the bridge",
        "the reporter in this footage wears red",
        "clips showing the flooded bridge",
        "according to the transcript who resigned",
        "the caption names which mayor",
        "what do the subtitles claim about mayors",
        "which year appears in on-screen text",
        "which year appears in on screen text",
        "which year appears in on‑screen text",
        "the year written on the screen behind her",
        "text on screen naming the mayor",
        "a bridge as shown before the flood",
        "the collapse as seen in the opening",
        "the collapse as seen here",
        "what does the transcript say about mayors",
        "as shown in the video the bridge falls",
        "details of bridge_flood-2.mp4 recording",
        "Bridge.MOV collapse in Genoa",
        "what colour is the car in the first frame",
        "based on the provided evidence, who resigned",
        "the speaker heard in the audio resigned",
        "video description naming the mayor",
        "the uploader of bridge collapse news",
        "THE VIDEO'S main claim on floods",
    ],
)
def test_a_query_that_speaks_of_its_video_is_dropped(text: str):
    assert reason(text, Evidence()) == "mentions video"


@pytest.mark.parametrize(
    "text",
    [
        "the video game industry layoffs of 2023",
        "a video game tournament final in Seoul",
        "MTV music video award acceptance speech interrupted",
        "film director wins prize at Cannes",
        "the video assistant referee cancels a goal",
        "that video-sharing platform banned in India",
        "police bodycam footage release sparks protests",
        "engineer repairs a paper clip machine",
        "actors' on-screen chemistry in Casablanca",
        "premiere on the big screen in Cannes",
        "players lift the title after extra time",
        "fans breathe video poker in Reno",
        "the evidence against the mayor of Genoa",
        "described in the description of a witness",
        "welding the frame of a racing bike",
        "the speaker of the house resigns abruptly",
        "Node.js developers meet in Berlin",
        "captioning law for broadcasters passed",
        "a transcription of the scrolls was found",
        "spillway damage as seen in the Oroville dam",
        "battle of Issus as depicted in the Alexander mosaic",
        "inflation fell as shown by the June figures",
        "words on the screen of the ATM in Lagos",
        "what words appear on the screen of the ATM",
        "the transcript of the trial released by the court",
        "the metadata from phone calls kept by the agency",
        "the caption contest of a magazine",
    ],
)
def test_false_friends_pass(text: str):
    assert mentions_video(text) is None


def test_another_language_is_dropped_with_what_it_looks_like():
    found = reject_reason(query("warum wurde der Start der Rakete verschoben"), EVIDENCE, TextFilters())
    assert found is not None
    assert found[0] == "wrong language"
    assert found[1].startswith("likely de")
    assert reason("почему запуск ракеты был отложен") == "wrong language"
    assert reason("почему запуск ракеты был отложен", filters=TextFilters(languages=("en", "ru"))) is None


def grounded(*cited: str, **filters: float) -> str | None:
    return reason(GOOD, cited=cited, filters=TextFilters(**filters))


@pytest.mark.parametrize(
    "cited",
    [
        "cancelled the rocket launch",
        "ASR: Cancelled the rocket-launch, because of wind!",  # over the end of a segment
        "asr: engineers … launch because",
        "engineers cancelled ... of wind [cut]",
        "asr: engineers canceled the rocket launch",  # a letter less
    ],
)
def test_a_quotation_of_what_the_writer_was_shown_is_grounded(cited: str):
    assert grounded(cited) is None


@pytest.mark.parametrize(
    "cited",
    [
        "engineers cancelled the tram line",
        "caption: people wait",  # true of the video, and not shown to this writer
        "asr: engineers … were all to blame",
        "launch rocket the cancelled engineers",
        "wind of because launch",
    ],
)
def test_what_the_writer_was_not_shown_is_not_grounded(cited: str):
    assert grounded("asr: the rocket launch", cited) == "not grounded"
    assert grounded("asr: the rocket launch", cited, min_quoted=0) is None


def test_a_query_that_cites_nothing_is_not_grounded_and_one_that_does_says_how_much_was_found():
    assert grounded() == grounded("", "asr: …") == "not grounded"
    assert reject_reason(query(GOOD, cited=("asr: engineers mmm",)), EVIDENCE, TextFilters()) == (
        "not grounded",
        "0.75 of 'engineers mmm' is in the evidence, at least 0.9",
    )


def test_what_the_prompt_left_out_cannot_be_cited():
    cut = replace(query(GOOD, cited=("because of wind",)), evidence_cut=(EvidenceCut("asr", 45, 52),))

    assert reject_reason(replace(cut, evidence_cut=()), EVIDENCE, TextFilters()) is None
    assert reject_reason(cut, EVIDENCE, TextFilters()) is not None


def test_a_quotation_is_found_in_a_long_transcript_quickly():
    spoken = " ".join(f"word{n} and the number {n * n} of many" for n in range(1000))
    evidence = Evidence(asr=(AsrSegment(0, 4, spoken, 0.9),))
    quotation = "number 810000 of many, word901 and the nunber 811801"

    assert reason(GOOD, evidence, cited=(quotation,)) is None


@pytest.mark.parametrize(("gap", "expected"), [(0.4, None), (0.39, "repeats evidence"), (1.0, None)])
def test_a_query_shares_no_more_words_with_the_evidence_than_it_may(gap: float, expected: str | None):
    filters = TextFilters(max_overlap=0.6)

    assert reason(GOOD, lexical_gap=gap, filters=filters) == expected
    assert reason(GOOD, lexical_gap=gap, filters=filters, query_type="base") is None
    assert reason(GOOD, lexical_gap=0.0) is None


def test_the_cheapest_filter_that_fires_gives_the_reason():
    assert reason("the video", rationale="") == "too short"
    assert reason("the video of the launch", rationale="") == "empty rationale"
    assert reason("the video warum wurde der Start verschoben") == "mentions video"


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_words": 9, "max_words": 8},
        {"min_words": 0},
        {"max_copied_words": -1},
        {"max_overlap": 1.1},
        {"min_quoted": -0.1},
        {"near_duplicate_jaccard": 0.0},
        {"near_duplicate_jaccard": 1.1},
        {"languages": ()},
        {"languages": ("english",)},
        {"min_language_probability": 2.0},
    ],
)
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, object]):
    with pytest.raises(InvalidRecord):
        TextFilters(**wrong)


def test_the_transform_keeps_queries_and_accounts_for_the_others():
    video = Video("v-1", "v.mp4", MediaFacts("0" * 64, 1), EVIDENCE)
    good, short = query("which reading made engineers postpone a launch"), query("a launch", query_id="q-2")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        kept, losses = pipeline | beam.Create([(good, video), (short, video)]) | FilterQueries(TextFilters())
        assert_that(kept, equal_to([good]), "kept")
        expected = Loss("rejected", "synthesize", "filter", "too short", "2 words, at least 4", "v-1", "q-2")
        assert_that(losses, equal_to([expected]), "losses")
