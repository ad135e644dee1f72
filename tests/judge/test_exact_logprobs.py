"""Margins from the log-probabilities of every token that spells yes or no, from a server that answers as vLLM does."""

import math
from contextlib import closing

import pytest

from pipeline.planning.forecast import calls_to_follow
from tests.support.probe_double import REFUSED, Double
from tests.support.ranking_records import query, video
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion
from transforms.engines.openai.probe import SPELLINGS
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.teacher.recorded_teacher import RecordedTeacher

# A vocabulary, and the distribution at the decision: 30 other words are likelier than any no.
WORDS = {"yes": 7, " yes": 8, "Yes": 9, "no": 17, " No": 18, "y": 5, "n": 15}
LOGPROBS = {"yes": -0.2, " yes": -4.0, "Yes": -3.0, "no": -13.0, " No": -14.0, "y": -9.0, "n": -15.0}
MASKED = -9999.0  # what a grammar forbids at a place, as vLLM reports it
MARGIN = math.log(sum(math.exp(LOGPROBS[word]) for word in ("yes", " yes", "Yes", "y"))) - math.log(
    sum(math.exp(LOGPROBS[word]) for word in ("no", " No", "n"))
)


class Vllm(Double):
    """vLLM: chosen tokens take the place of the likeliest ones at every position, whatever top_logprobs says."""

    chosen = "yes"
    tokenizes = True

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/tokenize":
            text = asked.body["prompt"]
            ids = [WORDS[text]] if text in WORDS else list(range(100, 101 + len(text)))
            found = {"count": len(ids), "max_model_len": 4096, "tokens": ids, "token_strs": None}
            return Reply(found) if self.tokenizes else Reply({"detail": "Not Found"}, status=404)
        if asked.path.endswith("/models") or (
            len(asked.body["messages"]) == 1 and "logprob_token_ids" not in asked.body
        ):
            return super().__call__(asked)
        ids = asked.body.get("logprob_token_ids")
        if ids is not None and self.chosen == "refused":
            return REFUSED
        listed = [] if ids is None or self.chosen == "ignored" else [word for word, id_ in WORDS.items() if id_ in ids]
        if ids is None:
            listed = ["yes", "Yes"]
        told = {
            word: MASKED if ids and self.chosen == "masked" and word != "yes" else LOGPROBS[word] for word in listed
        }
        parts = (("<answer>", 0.0), ("yes", LOGPROBS["yes"]), ("</answer>", 0.0))
        tokens = [
            {**entry(text, logprob), "top_logprobs": [entry(w, p) for w, p in told.items()]} for text, logprob in parts
        ]
        return completion("<answer>yes</answer>", tokens)


def entry(text: str, logprob: float) -> dict:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def fitted(server: ScriptedServer) -> tuple[OpenAiTeacher, str]:
    engine = OpenAiTeacher(
        model="m", base_url=server.base_url, confidence=("logprobs_exact", "logprobs"), temperature=1.0, timeout_s=10.0
    )
    teacher, found = engine.fitted("judge")
    return teacher, found.lacks


def judged(engine: OpenAiTeacher, journal: Journal):
    pair = Pair(query(), video("pos", "A bridge is closed."), None, is_positive=True)
    return judge_pair(RecordedTeacher(engine, journal), engine.stamp(), pair, JudgeOptions())


def test_a_margin_is_the_exact_sum_over_all_spellings_however_unlikely_and_its_interval_has_no_width(tmp_path):
    with ScriptedServer(Vllm()) as server, closing(Journal(str(tmp_path))) as journal:
        teacher, lacks = fitted(server)
        judgement = judged(teacher, journal)

    body = server.asked[-1].body
    assert body["logprob_token_ids"] == sorted(WORDS.values())
    assert body["logprobs"] is True
    assert "top_logprobs" not in body
    assert "log-probabilities of chosen tokens" not in lacks
    assert judgement.confidence_source == "logprobs_exact"
    assert judgement.margin.delta == pytest.approx(MARGIN, abs=1e-9)
    assert judgement.margin.lo == judgement.margin.delta == judgement.margin.hi
    assert judgement.margin.censored is None


@pytest.mark.parametrize("how", ["ignored", "masked", "refused", "no tokenizer"])
def test_a_server_without_it_is_told_and_falls_back_to_what_it_has(how, tmp_path):
    double = Vllm()
    object.__setattr__(double, "chosen", how)
    object.__setattr__(double, "tokenizes", how != "no tokenizer")
    with ScriptedServer(double) as server, closing(Journal(str(tmp_path))) as journal:
        teacher, lacks = fitted(server)
        judgement = judged(teacher, journal)

    kind = {"no tokenizer": "refused", "masked": "ignored"}.get(how, how)
    assert f"does not tell the log-probabilities of chosen tokens ({kind})" in lacks
    assert "margins come from logprobs instead of from logprobs_exact" in lacks
    assert judgement.confidence_source == "logprobs"
    assert judgement.margin.censored == "no"
    assert judgement.margin.hi - judgement.margin.lo > 5.0


def test_replies_that_were_asked_for_otherwise_are_not_taken_for_exact_ones(tmp_path):
    plain = {"confidence": ("logprobs",), "temperature": 1.0, "timeout_s": 10.0}
    with ScriptedServer(Vllm()) as server, closing(Journal(str(tmp_path))) as journal:
        before = judged(OpenAiTeacher(model="m", base_url=server.base_url, **plain).fitted("judge")[0], journal)
        asked = len(server.asked)
        teacher, _ = fitted(server)
        probing = len(server.asked) - asked
        after, again = judged(teacher, journal), judged(teacher, journal)

    assert (before.confidence_source, after.confidence_source) == ("logprobs", "logprobs_exact")
    assert after == again
    assert len(server.asked) - asked - probing == 1
    assert teacher.stamp() == OpenAiTeacher(model="m", base_url="http://localhost:1/v1", **plain).stamp()


def test_a_plan_foresees_no_further_call_and_a_vocabulary_has_room_for_all_spellings():
    assert calls_to_follow(OpenAiTeacher(model="m", confidence=("logprobs_exact",)).ladder, "logprobs_exact") == 0
    assert len(set(SPELLINGS)) == len(SPELLINGS) <= 128  # as many tokens as vLLM can be asked for
