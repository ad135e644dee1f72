"""Why a plan says that a result is missing, and what it foretells of work behind missing work."""

import shutil
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean

import pytest

from pipeline.config import load_recipe
from pipeline.planning.changes import not_held
from pipeline.planning.forecast import Flow, calls_to_follow
from pipeline.planning.rate import Rate
from pipeline.planning.step import Reason, step_plan
from schemas.usage import Usage
from schemas.video import EngineStamp, ManifestEntry
from tests.support.make_clips import make_clip
from transforms.engines.pyav import PyAv
from transforms.extract.decode import Decoding, Limits, decode_video
from transforms.extract.headers import Headers, probe
from transforms.journal.budget import Cost, Deferred
from transforms.journal.journal import Journal
from transforms.journal.record import Key, RecordedFailure
from transforms.protocols.frames import FramePolicy
from transforms.protocols.teacher import Ladder, TeacherFailed, TeacherReply
from transforms.storage.cache import Cache

WHISPER = EngineStamp("whisper", "20250625", "large-v2", "9f3a" * 4)


def looked_up(root: Path, key: Key, retry: str = "transient") -> str:
    """Why a journal of ``root`` that only looks does not hold a key."""
    with closing(Journal(str(root), retry, look_only=True, note=not_held)) as looking:
        with pytest.raises(Deferred):
            looking.once(key, lambda: pytest.fail("a plan works"), str)
        [miss] = looking.misses()
    return miss.why


def record(root: Path, *keys: Key) -> None:
    with closing(Journal(str(root))) as journal:
        for key in keys:
            journal.once(key, str, str)


ASR = Key("asr", "a.mp4", WHISPER, {"format": "1"}, {"sound": "audio/1"})
JUDGE = Key(
    "judge", "q v", WHISPER, {"prompt": "3f2a" * 4, "count": "0"}, {"evidence": "e", "query": "q", "request": "r"}
)


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (ASR, replace(ASR, subject="b.mp4", inputs={"sound": "audio/2"}), "new"),
        (ASR, replace(ASR, engine=replace(WHISPER, fingerprint="77aa" * 4)), "engine options 9f3a -> 77aa"),
        (
            ASR,
            replace(ASR, engine=replace(WHISPER, version="2031", fingerprint="1")),
            "engine version whisper 20250625 -> 2031",
        ),
        (ASR, replace(ASR, engine=replace(WHISPER, model="tiny", fingerprint="1")), "model large-v2 -> tiny"),
        (ASR, replace(ASR, engine=EngineStamp("sphinx", "5", "", "1")), "engine whisper large-v2 -> sphinx"),
        (ASR, replace(ASR, inputs={"sound": "audio/2"}), "sound"),
        (ASR, replace(ASR, settings={"format": "2"}, inputs={"sound": "audio/2"}), "format 1 -> 2, sound"),
        (
            JUDGE,
            replace(JUDGE, settings={"prompt": "3f2a91cc" * 2, "count": "0"}, inputs={**JUDGE.inputs, "request": "s"}),
            "prompt 3f2a3 -> 3f2a9",
        ),
        (JUDGE, replace(JUDGE, inputs={**JUDGE.inputs, "evidence": "f", "request": "s"}), "evidence"),
        (JUDGE, replace(JUDGE, inputs={**JUDGE.inputs, "request": "s"}), "request"),
    ],
)
def test_a_miss_names_what_changed_since_the_last_record(tmp_path, before, now, reason):
    record(tmp_path, before)

    assert looked_up(tmp_path, now) == reason


def test_a_plan_keeps_a_few_hundred_bytes_of_each_miss():
    names = [f"q-{number:016x} v-{number:016x}" for number in range(10_000)]
    keys = (replace(JUDGE, subject=name, settings={"prompt": "aa", "confidence": "logprobs"}) for name in names)
    tracemalloc.start()
    kept = [not_held(key, None) for key in keys]
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(kept) == len({miss.subject for miss in kept})
    assert grown < 250 * len(kept)


def test_the_last_of_several_records_is_the_one_compared_with(tmp_path):
    record(tmp_path, replace(ASR, settings={"format": "7"}), replace(ASR, settings={"format": "8"}))

    assert looked_up(tmp_path, ASR) == "format 8 -> 1"


def test_a_failure_that_is_tried_again_says_so(tmp_path):
    def fail():
        raise ValueError("broken")

    with closing(Journal(str(tmp_path))) as journal, pytest.raises(RecordedFailure):
        journal.once(ASR, fail, str, failures=(ValueError,))

    assert looked_up(tmp_path, ASR) == "failed before (ValueError)"
    with closing(Journal(str(tmp_path), "none", look_only=True)) as looking, pytest.raises(RecordedFailure):
        looking.once(ASR, str, str)


def test_a_changed_media_file_and_lost_frames_are_told_apart(tmp_path):
    clip, root = make_clip(tmp_path / "a.mp4", frames=4), tmp_path / "cache"

    def decode(look_only: bool) -> list[str]:
        with closing(Journal(str(root), look_only=look_only, note=not_held)) as journal:
            try:
                decode_video(
                    ManifestEntry(str(clip)),
                    Decoding(PyAv(), FramePolicy(max_frames=1), Limits(), Cache(str(root)), journal),
                )
            except Deferred:
                return [miss.why for miss in journal.misses()]
        return []

    assert (decode(look_only=True), root.exists()) == (["new"], False)
    assert decode(look_only=False) == decode(look_only=True) == []
    shutil.rmtree(root / "frames")
    assert decode(look_only=True) == ["record unusable"]
    make_clip(clip, frames=6)
    assert decode(look_only=True) == ["media"]


def test_a_call_takes_what_was_measured_of_its_engine_and_model_else_of_any_else_what_the_recipe_says(tmp_path):
    other = EngineStamp("whisper", "1", "tiny", "1")
    with closing(Journal(str(tmp_path))) as journal:
        for n, engine in enumerate((WHISPER, WHISPER, other)):
            key = Key("judge", f"{n}", engine, inputs={"n": f"{n}"})
            journal.once(key, lambda n=n: TeacherReply("yes", usage=Usage(100 * n, 10 * n)), TeacherReply)
    cost = Cost(input_tokens=7, output_tokens=3)

    with closing(Journal(str(tmp_path), look_only=True)) as looking:
        records = looking.some("judge", 10)
        known, unknown = (Rate.of(records, EngineStamp("whisper", "2", model, ""), cost) for model in ("large-v2", "x"))

    assert (known.input_tokens, known.output_tokens, known.measured) == (50, 5, True)
    assert known.seconds is not None
    assert (unknown.input_tokens, unknown.output_tokens, unknown.measured, unknown.seconds) == (100, 10, True, None)
    assert Rate.of([], WHISPER, cost) == Rate(7, 3, measured=False, seconds=None)


def test_work_behind_missing_work_is_estimated_from_what_is_at_hand():
    recipe = load_recipe("demo", ["mine.candidates=4", "emit.validation_fraction=0"])
    counts = {
        "synthesize/select": {"out": 3},
        "synthesize/filter": {"in": 12, "out": 9},
        "synthesize/deduplicate": {"in": 9, "out": 8},
        "mine/filter": {"in": 8, "out": 4},
        "judge/judge": {"in": 12},
    }
    flow = Flow(recipe, counts, {"write": 6, "judge": 12}, {"write": 6}, human=0, ladder=Ladder(()))

    assert flow.write_calls(2) == 4  # two a video
    # 9 queries of 6 calls, and 6 more of 4; 8/9 and then half of them stay; 3 pairs each of 3 videos, so 5 of 5
    assert flow.judge_calls(2, 4) == pytest.approx(15 * 8 / 9 / 2 * 5)
    # 2 pairs each of 3 videos, two calls a pair: of 5 videos as many more as could be
    fewer = replace(flow, counts={**counts, "judge/judge": {"in": 8}}, calls={"write": 6, "judge": 16})
    assert fewer.judge_calls(2, 4) == pytest.approx(15 * 8 / 9 / 2 * (2 * 5 / 3) * 2)
    # 4 pairs each, where 3 had been supposed: no query has more than its own video and four candidates
    more = replace(flow, counts={**counts, "judge/judge": {"in": 16}}, calls={"write": 6, "judge": 32})
    assert more.judge_calls(2, 4) == pytest.approx(15 * 8 / 9 / 2 * 5 * 2)
    embedded = replace(flow, calls={**flow.calls, "embed_video": 9})
    assert embedded.embed_video_calls(2, of_text=1, of_frames=0) == 6  # three fields a video
    assert flow.searched(4) == pytest.approx(15 * 8 / 9)
    of_others = {**counts, "synthesize/deduplicate": {"in": 9, "out": 8, "of others": 1}}
    assert replace(flow, counts=of_others).searched(4) == pytest.approx(15 * 8 / 9 * (15 / 9) ** (-1 / 8))
    assert replace(flow, counts={**counts, "synthesize/deduplicate": {"in": 9}}).searched(4) == 0
    assert flow.spread(10) == (8, 14)
    cold = Flow(recipe, {}, {"write": 0, "judge": 0}, {"write": 0}, human=0, ladder=Ladder(()))
    assert cold.spread(10) == (4, 14)
    assert cold.judge_calls(10, cold.write_calls(10)) == pytest.approx(10 * 5 * 0.9 * 2 * 0.8 * 5)
    assert replace(cold, calls={"embed_video": 0}).embed_video_calls(10, 1, 1) == pytest.approx(10 * (5 * 0.9 - 1 + 1))
    sampled = replace(cold, ladder=Ladder(("sampling",), samples=8))
    assert sampled.judge_calls(10, sampled.write_calls(10)) == pytest.approx(10 * 5 * 0.9 * 2 * 0.8 * 5 * 9)
    few_words = replace(cold, words_alone=True)
    assert few_words.judge_calls(10, 45) == pytest.approx(45 * 2 * 0.8 * (1 + 0.32 * 9))
    assert few_words.judge_calls(1000, 45) == pytest.approx(45 * 2 * 0.8 * 5)


@pytest.mark.parametrize(("times", "off"), [(2, 0.05), (5, 0.2)])
def test_the_more_queries_there_are_the_more_say_what_another_videos_says(times, off):
    # Each says one of 300 things: of so many, how many things are said, and how many are foretold from the first.
    recipe, draws, first, things = load_recipe("demo"), 300, 40, 300
    rng = Random(7)
    foretold, linear, came = [], [], []
    for _ in range(draws):
        said = [rng.randrange(things) for _ in range(first * times)]
        kept = len(set(said[:first]))
        counts = {
            "synthesize/filter": {"out": first},
            "synthesize/deduplicate": {"in": first, "out": kept, "of others": first - kept},
        }
        flow = Flow(recipe, counts, {"write": 20}, {"write": 20}, human=0, ladder=Ladder(()))
        foretold.append(flow.searched(20 * (times - 1)))
        counts["synthesize/deduplicate"]["of others"] = 0  # as if each video had said something twice
        linear.append(replace(flow, counts=counts).searched(20 * (times - 1)))
        came.append(len(set(said)))

    assert fmean(foretold) == pytest.approx(fmean(came), rel=off)
    assert fmean(linear) > (1 + off) * fmean(came)


def test_new_videos_take_the_place_of_as_many_candidates_as_they_are_of_all():
    recipe = load_recipe("demo", ["mine.candidates=4", "emit.validation_fraction=0"])
    flow = Flow(recipe, {}, {}, {}, human=0, ladder=Ladder(()))

    assert flow.replaced(101, 201) == pytest.approx(0.5)
    assert flow.replaced(101, 101) == 0
    assert flow.replaced(3, 5) == 0  # all five are candidates
    assert flow.replaced(3, 9) == pytest.approx(1 - (4 * 2 / 8) / 2)
    assert flow.replaced(0, 9) == 0


@pytest.mark.parametrize(
    ("rungs", "asked", "more"),
    [
        (("logprobs", "sampling"), "logprobs", 0),
        (("logprobs_prefill",), "label_only", 1),
        (("logprobs_prefill",), "logprobs_prefill", 0),
        (("verbalized", "logprobs"), "logprobs", 1),
        (("sampling",), "label_only", 8),
        (("sampling",), "sampling", 0),
        (("sampling",), "prior", 9),
        (("logprobs",), "prior", 1),
        (("rules",), "label_only", 0),
        ((), "label_only", 0),
    ],
)
def test_calls_that_follow_a_reply_for_sure_are_those_of_the_first_rung(rungs, asked, more):
    assert calls_to_follow(Ladder(rungs, samples=8), asked) == more


def test_the_plan_knows_how_many_requests_a_call_takes_and_how_much_the_server_has_cached(tmp_path):
    used = [Usage(1000, 10, 900, requests=1, retries=0), Usage(1000, 10, 500, requests=2, retries=1), Usage(400, 10)]
    gave_up = TeacherFailed("busy", usage=Usage().sent(6))
    with closing(Journal(str(tmp_path))) as journal:
        for n, usage in enumerate(used):
            key = Key("judge", f"{n}", WHISPER, inputs={"n": f"{n}"})
            journal.once(key, lambda usage=usage: TeacherReply("yes", usage=usage), TeacherReply)
        with pytest.raises(RecordedFailure):
            journal.once(Key("judge", "x", WHISPER), Raises(gave_up), TeacherReply, failures=(TeacherFailed,))
    cost = Cost(input_price=1.0, cached_price=0.1)

    with closing(Journal(str(tmp_path), look_only=True)) as looking:
        rate = Rate.of(looking.some("judge", 10), WHISPER, cost)

    assert (rate.input_tokens, rate.cached_share, rate.requests) == (800, 0.7, 3)
    step = step_plan("judge", 0, True, (Reason("new", 100),), rate, cost, paid=True)
    assert (step.to_run, step.requests, step.input_tokens, step.cached_tokens) == (100, 300, 80_000, 56_000)
    assert step.dollars == pytest.approx((24_000 + 56_000 * 0.1) / 1e6)
    here = step_plan("embed_video", 0, True, (Reason("new", 100),), rate, cost, paid=False)
    assert (step.calls, here.calls, here.to_run, here.input_tokens, here.dollars) == (100, 0, 100, 0, 0.0)


class Raises:
    """Work that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self) -> TeacherReply:
        raise self.error


def test_headers_are_read_without_decoding_and_bad_files_have_none(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")

    assert probe(str(make_clip(tmp_path / "a.mp4"))) == Headers(has_video=True, has_audio=False, duration_s=2.0)
    assert probe(str(tmp_path / "text.mp4")) is None
