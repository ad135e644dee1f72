"""Margins from the log-probabilities of every token that spells yes or no; servers answer as vLLM and SGLang do.

SGLang's replies are as its source has them: serving_chat.py (``prompt_token_ids``, ``meta_info``), tokenizer_manager.py
(``output_token_ids_logprobs``: a list a place of log-probability, id and text).
"""

import math
from collections import Counter
from contextlib import closing
from functools import partial

import pytest

from pipeline.planning.forecast import calls_to_follow
from prompts.margin import SENTINEL
from tests.support.probe_double import BUSY, REFUSED, Double
from tests.support.ranking_records import query, video
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.probing.probe import SPELLINGS
from transforms.engines.openai.sglang import Ids, ask_exactly, read_generated, read_ids
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import TeacherFailed
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


def test_a_tokenizer_that_is_busy_for_a_moment_is_asked_again_and_for_long_leaves_it_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr("transforms.engines.openai.probing.probed_server.pause_s", lambda *_: 0.0)
    double, told = Vllm(), Counter()

    def busy(asked: Asked, times: float) -> Reply:
        if asked.path == "/tokenize":
            told[asked.body["prompt"]] += 1
            if told[asked.body["prompt"]] <= times:
                return BUSY
        return double(asked)

    with ScriptedServer(partial(busy, times=2)) as server:
        _, found = OpenAiTeacher(model="m", base_url=server.base_url, confidence=("logprobs_exact",)).fitted("judge")
    told.clear()
    with ScriptedServer(partial(busy, times=math.inf)) as server:
        _, never = OpenAiTeacher(model="m", base_url=server.base_url, confidence=("logprobs_exact",)).fitted("judge")

    assert (found.logprobs_exact, never.logprobs_exact) == ("yes", "unknown")
    assert "does not tell the log-probabilities of chosen tokens (unknown)" in never.lacks
    assert told.total() == 3  # nothing more is asked of a tokenizer that says nothing


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


PROMPT = [1, 900, 901, 2]
REPLY = (("<answer>", 50), ("yes", WORDS["yes"]), ("</answer>", 51))


class Sglang(Vllm):
    """SGLang: chat completions take no ids to tell of, and its own endpoint does; ``after`` is what that was asked."""

    tells_ids = True
    generates = True
    busy = 0

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/generate":
            return self._generated(asked.body)
        if asked.path.endswith("/models") or asked.path == "/tokenize":
            return super().__call__(asked)
        body = {name: value for name, value in asked.body.items() if name != "logprob_token_ids"}
        ids_told = body.get("return_prompt_token_ids") and body.get("return_meta_info") and self.tells_ids
        if len(body["messages"]) == 1 and ids_told:
            reply = completion("one", [{**entry("one", -0.1), "top_logprobs": []}])
            parts = [("one", 70)]
        elif len(body["messages"]) == 1:
            return super().__call__(Asked(asked.path, asked.headers, {"top_logprobs": 0, **body}))
        else:
            top = [entry(word, LOGPROBS[word]) for word in ("yes", "Yes")]
            tokens = [{**entry(text, LOGPROBS.get(text, 0.0)), "top_logprobs": top} for text, _ in REPLY]
            reply, parts = completion("<answer>yes</answer>", tokens), REPLY
        if ids_told:
            listed = [[LOGPROBS.get(text, 0.0), id_, text] for text, id_ in parts]
            (choice,) = reply.body["choices"]
            choice |= {"prompt_token_ids": PROMPT, "meta_info": {"id": "x", "output_token_logprobs": listed}}
        return reply

    def _generated(self, body: dict) -> Reply:
        if not self.generates:
            return Reply({"detail": "Not Found"}, status=404)
        assert body["sampling_params"] == {"max_new_tokens": 1, "temperature": 1.0}
        assert body["return_logprob"] is True
        told = [[LOGPROBS[word], id_, word] for word, id_ in WORDS.items() if id_ in body["token_ids_logprob"]]
        meta = {"prompt_tokens": len(body["input_ids"]), "completion_tokens": 1, "cached_tokens": 4}
        meta |= {"output_token_logprobs": [[-0.2, 7, "yes"]], "output_token_ids_logprobs": [told]}
        return Reply({"text": "yes", "output_ids": [7], "meta_info": meta})


def test_sglang_is_asked_a_second_time_and_tells_the_same_margin(tmp_path):
    with ScriptedServer(Sglang()) as server, closing(Journal(str(tmp_path))) as journal:
        teacher, lacks = fitted(server)
        probing = len(server.asked)
        judgement, again = judged(teacher, journal), judged(teacher, journal)

    assert "chosen tokens" not in lacks
    chat, generate = server.asked[probing:]
    assert (chat.path, generate.path) == ("/v1/chat/completions", "/generate")
    assert chat.body["logprobs"] is chat.body["return_prompt_token_ids"] is chat.body["return_meta_info"] is True
    assert generate.body["input_ids"] == [*PROMPT, 50]  # up to the answer tag
    assert generate.body["token_ids_logprob"] == sorted(WORDS.values())
    assert judgement == again
    assert judgement.confidence_source == "logprobs_exact"
    assert judgement.margin.delta == pytest.approx(MARGIN, abs=1e-9)
    assert judgement.margin.lo == judgement.margin.delta == judgement.margin.hi


@pytest.mark.parametrize("lack", ["tells_ids", "generates"])
def test_an_sglang_that_lacks_a_part_of_it_falls_back(lack, tmp_path):
    double = Sglang()
    object.__setattr__(double, lack, False)
    with ScriptedServer(double) as server, closing(Journal(str(tmp_path))) as journal:
        teacher, lacks = fitted(server)
        judgement = judged(teacher, journal)

    assert "does not tell the log-probabilities of chosen tokens" in lacks
    assert judgement.confidence_source == "logprobs"
    assert server.asked[-1].path == "/v1/chat/completions"
    assert "return_meta_info" not in server.asked[-1].body


def test_an_adapter_that_the_second_call_would_not_name_is_not_asked_so(tmp_path):
    with ScriptedServer(Sglang()) as server:
        engine = OpenAiTeacher(model="m:adapter", base_url=server.base_url, confidence=("logprobs_exact", "logprobs"))
        _, found = engine.fitted("judge")

    assert found.exact_by == ""
    assert all(asked.path != "/generate" for asked in server.asked)


def test_sglangs_own_call_is_at_temperature_1_whatever_the_reply_was_drawn_at(tmp_path):
    options = {"model": "m", "confidence": ("logprobs_exact", "logprobs"), "temperature": 0.5}
    with ScriptedServer(Sglang(processed=True)) as server, closing(Journal(str(tmp_path))) as journal:
        teacher, found = OpenAiTeacher(base_url=server.base_url, **options).fitted("judge")
        judgement = judged(teacher, journal)

    assert found.logprobs_mode == "processed"
    assert teacher.ladder.lacking[0] == "logprobs"
    assert "logprobs_exact" not in teacher.ladder.lacking
    assert judgement.confidence_source == "logprobs_exact"


def test_where_the_second_call_is_refused_for_good_the_reply_stands_and_where_it_fails_for_now_it_does_not(tmp_path):
    ids = tuple(sorted(WORDS.values()))
    double = Sglang()
    with ScriptedServer(double) as server:
        options = OpenAiTeacher(model="m", base_url=server.base_url, attempts=1)
        client = ChatClient(options)
        body = options.request([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], logprobs=True)
        whole = ask_exactly(client, body, ids)
        object.__setattr__(double, "_generated", lambda _: REFUSED)
        refused = ask_exactly(client, body, ids)
        object.__setattr__(double, "_generated", lambda _: BUSY)
        with pytest.raises(TeacherFailed) as failed:
            ask_exactly(client, body, ids)

    assert [token.complete for token in whole.tokens] == [False, True, False]
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (11 + len(PROMPT) + 1, 7 + 1)
    assert (whole.usage.requests, whole.usage.retries) == (2, 0)
    assert not any(token.complete for token in refused.tokens)
    assert failed.value.usage.requests == 2


def test_a_log_probability_that_is_no_number_was_not_told():
    told = read_generated(b'{"meta_info": {"output_token_ids_logprobs": [[[null, 7, "yes"], [-1.5, 17, null]]]}}')

    assert told.alternatives == ((b"yes", SENTINEL), (b"<17>", -1.5))
    assert read_ids(b'{"choices": [{"meta_info": null}]}') == read_ids(b"nonsense") == Ids()
