"""What rows say of each other, and what each must say: one change a case."""

import math
import shutil

import pytest

from tests.support.tampered_output import problems, rewrite, rows_of
from tests.support.tiny_output import tiny_rows

LONG_REASON = {"part": "asr", "reason": "it is as it is", "message": ""}
SURE = {
    "stratum": "hard_negative",
    **dict.fromkeys(("delta", "delta_lo", "delta_hi"), -12.0),
    "p_yes": 1 / (1 + math.exp(12.0)),
}
LIKELY = {
    "stratum": "hard_negative",
    "label": "yes",
    **dict.fromkeys(("delta", "delta_lo", "delta_hi"), 9.0),
    "p_yes": 1 / (1 + math.exp(-9.0)),
}


def set_values(table, index=0, **values):
    def change(rows):
        rows[table][index][1].update(values)

    return change


def rate(**ratings):
    def change(rows):
        rows["queries"][0][1]["difficulty"]["rated"] |= ratings

    return change


def set_judged(index, **values):
    """Change a judgement of the first query, the positive being the first."""

    def change(rows):
        query_id = rows["ranking"][0][1]["query_id"]
        rows_of(rows, "judgements", query_id=query_id)[index].update(values)

    return change


def set_in_example(candidate=0, **values):
    def change(rows):
        rows["ranking"][0][1]["candidates"][candidate].update(values)

    return change


def twice(table):
    def change(rows):
        rows[table].append(rows[table][0])

    return change


def drop_row(table, index=0):
    def change(rows):
        del rows[table][index]

    return change


def drop_candidates(keep):
    def change(rows):
        example = rows["ranking"][0][1]
        example["candidates"] = [c for c in example["candidates"] if keep(c)]

    return change


def drop_query_of_first_example(rows):
    query = rows_of(rows, "queries", query_id=rows["ranking"][0][1]["query_id"])[0]
    query.update(verdict="dropped", stage="curate", reason="no trusted negative")


def move_event(rows):
    rows["videos"][0][1]["split"] = "validation"


def move_example(rows):
    _, row = rows["ranking"][0]
    rows["ranking"][0] = ("validation", row)


def lend_video(rows):
    video_id = rows_of(rows, "videos", split="validation")[0]["video_id"]
    rows["ranking"][0][1]["candidates"][1]["video_id"] = video_id


def fourth_negative(rows):
    example = rows["ranking"][0][1]
    extra = {**example["candidates"][-1], "video_id": rows_of(rows, "videos", split="train")[-1]["video_id"]}
    example["candidates"] += [extra, {**extra, "video_id": rows_of(rows, "videos", split="train")[-2]["video_id"]}]


def lose_frames(rows):
    video_id = rows["ranking"][0][1]["candidates"][1]["video_id"]
    rows_of(rows, "videos", video_id=video_id)[0].update(frames=[], frame_times_s=[])


def two_positives(rows):
    rows["ranking"][0][1]["candidates"][1].update(label=1, stratum="positive")


@pytest.fixture
def output(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(twice("videos"), "its video_id is not unique", id="a video twice"),
        pytest.param(twice("queries"), "its query_id is not unique", id="a query twice"),
        pytest.param(twice("judgements"), "its query_id and video_id is not unique", id="a judgement twice"),
        pytest.param(twice("ranking"), "its query_id is not unique", id="an example twice"),
        pytest.param(twice("perception"), "its video_id is not unique", id="a caption twice"),
        pytest.param(set_values("queries", video_id="nowhere"), "video 'nowhere' is not in videos", id="query's video"),
        pytest.param(set_values("judgements", video_id="nowhere"), "its video is not in videos", id="judged video"),
        pytest.param(set_values("judgements", query_id="q-gone"), "its query is not in queries", id="judged query"),
        pytest.param(set_in_example(1, video_id="nowhere"), "'nowhere' is not in videos", id="candidate's video"),
        pytest.param(set_values("perception", video_id="nowhere"), "'nowhere' is not in videos", id="caption's video"),
        pytest.param(set_values("ranking", query_id="q-gone"), "q-gone: is not in queries", id="example's query"),
        pytest.param(drop_query_of_first_example, "its query was dropped", id="example of a dropped query"),
        pytest.param(drop_row("ranking"), "is kept, and no example holds it", id="kept query without example"),
        pytest.param(set_values("rejections", query_id="q-gone"), "query 'q-gone' is not in queries", id="rejection"),
        pytest.param(
            set_values("failures", stage="judge", video_id="gone"), "video 'gone' is not in videos", id="failure"
        ),
        pytest.param(two_positives, "an example has exactly one video of its own", id="two positives"),
        pytest.param(drop_candidates(lambda c: not c["label"]), "the query's own video comes first", id="no positive"),
        pytest.param(
            drop_candidates(lambda c: c["stratum"] != "trusted_negative"), "fewer than 1 trusted", id="none trusted"
        ),
        pytest.param(fourth_negative, "negatives, at most 3", id="too many negatives"),
        pytest.param(set_in_example(1, label=1), "label is 1 exactly for a positive", id="label"),
        pytest.param(set_in_example(1, stratum="suspected_positive"), "suspected positive", id="stratum"),
        pytest.param(
            set_in_example(1, delta=-5.0),
            "its stratum is hard_negative by label no, margin -5.0",
            id="margin of trusted",
        ),
        pytest.param(set_in_example(1, delta=-9.5), "p_yes must be sigmoid(delta)", id="p_yes of delta"),
        pytest.param(set_in_example(1, p_yes=None), "p_yes is null exactly where delta is", id="p_yes alone null"),
        pytest.param(set_judged(1, confidence_source="label_only"), "only a label-only judgement", id="no margin"),
        pytest.param(
            set_judged(1, confidence_source="prior"), "without a rationale, a pair is only ever", id="prior alone"
        ),
        pytest.param(set_in_example(1, confidence_source="prior"), "are those of its judgement", id="not as judged so"),
        pytest.param(set_in_example(1, confidence_source="luck"), "Invalid enum value 'luck'", id="source"),
        pytest.param(set_in_example(1, delta_lo=0.0), "needs finite lo <= delta <= hi", id="bounds of delta"),
        pytest.param(set_in_example(1, delta_hi=None), "Expected `float`, got `null`", id="no bound of delta"),
        pytest.param(set_in_example(1, label_mass=1.5), "label_mass must lie in [0, 1]", id="label mass"),
        pytest.param(set_in_example(1, rank=99), "are those of its judgement", id="rank not as judged"),
        pytest.param(
            set_in_example(1, rationale="made up"), "are those of its judgement", id="rationale not as judged"
        ),
        pytest.param(set_judged(1, rank=None), "rank and score are null together", id="score without rank"),
        pytest.param(set_judged(1, is_positive=True), "is of its query's own video", id="positive of another video"),
        pytest.param(set_judged(1, **SURE), "its stratum is trusted_negative by label no", id="sure, and called hard"),
        pytest.param(set_judged(1, **LIKELY), "its stratum is suspected_positive by label yes", id="yes, called hard"),
        pytest.param(set_in_example(1, **SURE), "its stratum is trusted_negative by label no", id="sure candidate"),
        pytest.param(set_in_example(1, delta_prior=-2.0), "are those of its judgement", id="prior not as judged"),
        pytest.param(
            set_in_example(1, delta=None, p_yes=None, confidence_source="label_only"),
            "are null where delta is",
            id="bounds of no margin",
        ),
        pytest.param(set_in_example(1, teacher_label="yes"), "are those of its judgement", id="not as judged"),
        pytest.param(lose_frames, "a candidate's video has frames", id="frames"),
        pytest.param(set_values("videos", frame_times_s=[0.0]), "4 frames but 1 frame times", id="frame times"),
        pytest.param(move_event, "event 'harbour-festival-2024' is in two splits", id="event in two splits"),
        pytest.param(move_example, "is of split train, used in validation", id="example in the wrong split"),
        pytest.param(lend_video, "is of split validation, used in train", id="video in two splits"),
        pytest.param(set_values("queries", rationale=" "), "a kept written query has a rationale", id="no rationale"),
        pytest.param(set_values("perception", caption="another"), "is not that of its video", id="another caption"),
        pytest.param(set_values("videos", warnings=[LONG_REASON]), "one to three words", id="reason of a warning"),
        pytest.param(set_values("rejections", stage="later"), "stage must be one of", id="stage of a rejection"),
        pytest.param(set_values("failures", error_class=" "), "reason must not be blank", id="class of a failure"),
        pytest.param(set_values("queries", verdict="maybe"), "verdict must be kept, dropped or deferred", id="verdict"),
        pytest.param(set_values("queries", text=" "), "query must not be blank", id="blank query"),
        pytest.param(set_values("queries", attempts=0), "attempts must be at least 1", id="no attempt"),
        pytest.param(set_values("queries", query_type="cross"), "a cross query needs two modalities", id="cross query"),
        pytest.param(rate(causal=3), "causal must be rated from 0 to 2", id="rating"),
        pytest.param(set_values("ranking", query="another"), "its text is not that of its query", id="another text"),
        pytest.param(set_values("judgements", label="perhaps"), "Invalid enum value 'perhaps'", id="judged label"),
        pytest.param(set_values("judgements", stratum="odd"), "stratum must be one of", id="judged stratum"),
        pytest.param(set_values("judgements", reason="why"), "a reason is given exactly where", id="judged reason"),
        pytest.param(set_values("perception", caption=""), "caption must not be blank", id="blank caption"),
        pytest.param(drop_row("rejections"), "in the ledger, 0 in rejections", id="ledger and rejections"),
        pytest.param(drop_row("failures"), "in the ledger, 0 in failures", id="ledger and failures"),
        pytest.param(drop_row("perception"), "left, perception has 11 rows", id="ledger and perception"),
    ],
)
def test_what_is_wrong_between_rows_is_named(output, change, said):
    rows = tiny_rows()
    change(rows)
    rewrite(output, rows)

    assert [problem for problem in problems(output) if said in problem], problems(output)
