"""The teacher against a real vLLM on a CPU (make test-vllm): margins over every spelling, exactly.

Its model is made on the spot, so that the same weights can be asked in this process too.
"""

import sys
import time
from contextlib import suppress

import pytest

from prompts.reply import UnparsableReply
from schemas.query import Query
from schemas.video import EngineStamp, Evidence, MediaFacts, Metadata, Video
from tests.support.overheard import Overheard, ids_before_the_answer
from tests.support.vllm_server import VERDICT, serving
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair

pytestmark = pytest.mark.vllm

STAMP = EngineStamp("openai", "1", "tiny", "f" * 16)
PAIRS = 16
CLOSE = 1e-4  # nats: kernels of vLLM's own add up in another order than PyTorch's, which was seen to make 2e-5


@pytest.fixture(scope="module")
def server(taught_llm):
    with serving(taught_llm.folder) as base_url:
        yield base_url


def pair_of(number):
    evidence = Evidence(caption="A red tram leaves.", metadata=Metadata(f"Ride {number}", "A tram line opened."))
    video = Video("tram", "/tram.mp4", MediaFacts("0" * 64, 1), evidence)
    return Pair(Query(f"q{number}", "tram", f"who rode tram {number} first", "human"), video, None, is_positive=True)


def fitted(base_url, **options):
    """A teacher that has found out what the server does, and what it found that the server lacks."""
    engine = OpenAiTeacher(model="tiny", base_url=base_url, timeout_s=600.0, **options)
    teacher, found = engine.fitted("judge")
    return Overheard(teacher.load()), found.lacks


def judged(teacher, number):
    return judge_pair(teacher, STAMP, pair_of(number), JudgeOptions(("caption", "metadata"), seed=number))


def test_every_margin_is_the_sum_over_classes_that_the_same_weights_give_in_process(server, taught_llm):
    teacher, lacks = fitted(server, confidence=("logprobs_exact", "logprobs"))
    assert "log-probabilities of chosen tokens" not in lacks
    truths = []
    for number in range(8):
        judgement = judged(teacher, number)
        truths.append(taught_llm.margin_after(ids_before_the_answer(taught_llm, *teacher.heard[-1])))

        assert (judgement.label, judgement.rationale) == ("yes", "It fits.")
        assert judgement.confidence_source == "logprobs_exact"
        assert judgement.margin.delta == pytest.approx(truths[-1], abs=CLOSE)
        assert judgement.margin.lo == judgement.margin.delta == judgement.margin.hi
    assert max(truths) - min(truths) > 10 * CLOSE  # or agreeing would show nothing


@pytest.mark.parametrize("rung", ["logprobs", "logprobs_prefill"])
def test_the_twenty_likeliest_tokens_bound_the_same_margin(server, taught_llm, rung):
    teacher, _ = fitted(server, confidence=(rung,), top_logprobs=20)
    for number in range(4):
        judgement = judged(teacher, number)
        truth = taught_llm.margin_after(ids_before_the_answer(taught_llm, *teacher.heard[-1]))

        assert judgement.confidence_source == rung
        assert judgement.margin.lo - CLOSE <= truth <= judgement.margin.hi + CLOSE


def test_a_reply_that_is_held_to_a_form_has_no_exact_margin_for_what_the_form_forbids_is_masked(server):
    held = {"structured_outputs": {"regex": VERDICT}}
    _, lacks = fitted(server, confidence=("logprobs_exact", "logprobs"), extra_body=held)

    assert "does not tell the log-probabilities of chosen tokens (ignored)" in lacks


def test_what_it_costs_to_ask_for_them(server, capsys):
    """Prints a table: the share of replies that can be read, and pairs a second, by where a margin comes from."""
    rows = []
    for rung in ("logprobs_exact", "logprobs", "logprobs_prefill"):
        teacher, _ = fitted(server, confidence=(rung,), top_logprobs=20)
        margins, begun = [], time.monotonic()
        for number in range(PAIRS):
            with suppress(UnparsableReply):
                margins.append(judged(teacher, number).margin)
        rate = PAIRS / (time.monotonic() - begun)
        rows.append((rung, len(margins), rate, max(margin.hi - margin.lo for margin in margins)))
    with capsys.disabled():
        sys.stdout.write("\n| margins from | can be read | pairs/s, one at a time | widest interval, nats |\n")
        sys.stdout.write("|---|---:|---:|---:|\n")
        for rung, read, rate, widest in rows:
            sys.stdout.write(f"| {rung} | {read} of {PAIRS} | {rate:.2f} | {widest:.2g} |\n")

    assert [read for _, read, *_ in rows] == [PAIRS] * len(rows)
    assert rows[0][-1] == 0.0
