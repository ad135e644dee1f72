"""The teacher against ``transformers serve``, which takes schemas and log-probabilities, and ignores them."""

import math
from collections import Counter
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from prompts.judge import judge_prompt
from schemas.query import PAPERS_VARIANTS, Query
from schemas.video import EngineStamp, Evidence, MediaFacts, Metadata, Video
from tests.support.tiny_llm import HOW_SURE_SAID
from tests.support.transformers_server import serving
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.judge.confidence import margin_of_percentage, margin_of_share
from transforms.judge.judge_pairs import JudgeOptions, JudgePairs, Pair, judge_pair
from transforms.synthesize.write_queries import WriteQueries

STAMP = EngineStamp("openai", "1", "tiny", "f" * 16)
MODALITIES = ("caption", "metadata")
VIDEO = Video(
    "tram",
    "/tram.mp4",
    MediaFacts("0" * 64, 1),
    Evidence(caption="A red tram leaves.", metadata=Metadata("First ride", "The city opened a tram line.")),
)


@pytest.fixture(scope="module")
def server():
    with serving() as base_url:
        yield base_url


@pytest.fixture
def options(server, taught_llm):
    return {"model": str(taught_llm.folder), "base_url": server, "max_tokens": 64}


def pair_of(number):
    return Pair(Query(f"q{number}", "tram", f"who rode tram {number} first", "human"), VIDEO, None, is_positive=True)


def judge(options, **more):
    return judge_pair(OpenAiTeacher(**options, **more).load(), STAMP, pair_of(0), JudgeOptions(MODALITIES))


@pytest.mark.parametrize(
    ("confidence", "source"),
    [
        ([], "label_only"),
        (["logprobs"], "label_only"),
        (["logprobs", "logprobs_prefill"], "label_only"),
        (["logprobs", "logprobs_prefill", "sampling"], "sampling"),
        (["logprobs", "verbalized", "sampling"], "verbalized"),
    ],
)
def test_the_ladder_goes_down_to_a_rung_that_the_server_has(options, confidence, source):
    judgement = judge(options, confidence=tuple(confidence), samples=16)

    assert (judgement.label, judgement.rationale) == ("yes", "It fits.")
    assert judgement.confidence_source == source
    match source:
        case "label_only":
            assert judgement.margin is None
        case "sampling":  # of both words, neither of which is all that was drawn
            assert abs(judgement.margin.delta) < margin_of_share(16, 16).delta
        case "verbalized":
            assert judgement.margin == margin_of_percentage(int(HOW_SURE_SAID))


def test_the_server_states_a_prior_in_one_call(options):
    judgement = judge(options, confidence=(), prior="systemone")

    assert judgement.confidence_source == "label_only"
    assert judgement.margin is None
    assert judgement.delta_prior is not None


def test_the_server_decides_as_the_same_weights_do_in_process(server, random_llm):
    from transformers import pipeline

    decide = pipeline("decision", model=random_llm.model, tokenizer=random_llm.tokenizer)
    teacher = OpenAiTeacher(model=str(random_llm.folder), base_url=server, prior="systemone", attempts=1).load()
    for number in range(4):
        pair = replace(pair_of(number), is_positive=False)
        # Every prior stays below this bound, so that no rationale is asked for: a random model gives none.
        judgement = judge_pair(teacher, STAMP, pair, JudgeOptions(MODALITIES, no_rationale_below=math.inf))
        prompt = judge_prompt(VIDEO.evidence, MODALITIES, VIDEO.video_id, pair.query.text)
        question = {"type": "noul", "instructions": "Does the video answer the query?"}
        p_yes = decide({"state": f"{prompt.system}\n\n{prompt.user}", "questions": {"q": question}})["q"]["noul"]

        assert judgement.delta_prior == pytest.approx(math.log(p_yes / (1 - p_yes)), abs=1e-3)
        assert (judgement.label, judgement.confidence_source) == ("no", "prior")


def test_what_cannot_be_read_is_a_rejection_and_never_a_no(options, journal):
    engine = OpenAiTeacher(**options, temperature=1.2, confidence=("logprobs",))
    pairs = [pair_of(number) for number in range(24)]

    def check(outcomes):
        counts = Counter(kind for kind, _ in outcomes)
        assert counts["judged"] + counts["rejected"] == len(pairs)
        assert counts["judged"] >= 1
        assert counts["rejected"] >= 1
        for kind, outcome in outcomes:
            if kind == "judged":
                assert f"<answer>{outcome.label}" in outcome.reply
                assert outcome.confidence_source == "label_only"
            else:
                assert outcome.reason in ("no answer", "not yes/no", "empty reply", "truncated", "two answers")

    with beam.Pipeline() as pipeline:
        outcome = pipeline | beam.Create(pairs) | JudgePairs(engine, journal, JudgeOptions(MODALITIES))
        judged = outcome.judgements | "Judged" >> beam.Map(lambda found: ("judged", found))
        rejected = outcome.losses | "Rejected" >> beam.Map(lambda found: ("rejected", found))
        assert_that((judged, rejected) | beam.Flatten(), check)


def test_without_a_schema_what_is_no_query_is_a_rejection_with_a_reason(options, journal):
    def check(rejections):
        reasons = {
            rejection.detail.split(":")[0].removeprefix("variant "): rejection.reason for rejection in rejections
        }
        assert {rejection.kind for rejection in rejections} == {"rejected"}
        assert len(rejections) == len(reasons) == len(PAPERS_VARIANTS)
        assert reasons["asr"] == reasons["ocr"] == "no evidence"
        assert {reasons[variant] for variant in ("caption", "metadata", "all")} <= {"not json", "truncated"}

    def nothing(found):
        assert found == []

    with beam.Pipeline() as pipeline:
        written = pipeline | beam.Create([VIDEO]) | WriteQueries(OpenAiTeacher(**options), journal)
        assert_that(written.losses, check, "Losses")
        assert_that(written.queries, nothing, "Queries")
