"""What is read of a whole reply, label and margin together: a table of replies."""

import math
import re
from dataclasses import dataclass

import pytest

from prompts.margin import LIMIT
from prompts.reply import UnparsableReply
from prompts.template import load_template
from schemas.token import Token
from tests.support.ranking_records import ENGINE, query, video
from tests.support.scripted_teacher import ScriptedTeacher
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import TeacherReply

PAIR = Pair(query(), video("pos", "A bridge that a flood closed."), None, is_positive=True)
SENTINEL = -9999.0


def judged(reply):
    return judge_pair(ScriptedTeacher(lambda _: reply), ENGINE, PAIR, JudgeOptions())


@dataclass(frozen=True)
class At:
    """A token with its alternatives as (text, probability); one of None is listed with the sentinel."""

    text: str | bytes
    listed: tuple[tuple[str | bytes, float | None], ...] = ()
    own: float | None = None

    def token(self):
        listed = tuple((as_bytes(text), log(p)) for text, p in self.listed)
        own = dict(listed).get(as_bytes(self.text), log(self.own))
        return Token(as_bytes(self.text), own, listed)


def at(text, own=None, **listed):
    return At(text, tuple(listed.items()), own)


def among(text, *listed, own=None):
    return At(text, listed, own)


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def log(probability):
    return SENTINEL if probability is None else math.log(probability) if 0 < probability < math.inf else probability


def reply_of(parts, **flags):
    tokens = tuple(part.token() if isinstance(part, At) else Token(part.encode(), -0.1) for part in parts)
    return TeacherReply(b"".join(token.text for token in tokens).decode("utf-8", "replace"), tokens, **flags)


ECHO = re.search("<think>(.*?)</think>", load_template("judge").source)[1]
W = "<think>why</think>"
T = W + "<answer>"
E = "</answer>"
Y, N = at("yes", yes=0.8, no=0.2), at("no", yes=0.2, no=0.8)
TRUNCATED, REFUSED = {"truncated": True}, {"refused": True}

# The parts of a reply (a plain part is a token without alternatives), its label or the reason that there is none, and
# the odds of yes to no that its margin holds: None where there is no margin, ("no", odds) where no was not reported.
TABLE = {
    # Spellings, whole and in pieces.
    "yes": ([T, Y, E], "yes", 4),
    "no": ([T, N, E], "no", 1 / 4),
    "Yes": ([T, at("Yes", Yes=0.5, yes=0.25, No=0.2, no=0.05), E], "yes", 3),
    "YES": ([T, at("YES", YES=0.8, NO=0.2), E], "yes", 4),
    "NO": ([T, at("NO", YES=0.2, NO=0.8), E], "no", 1 / 4),
    "a space before": ([T, among(" yes", (" yes", 0.6), ("yes", 0.2), (" no", 0.2)), E], "yes", 4),
    "a full stop after": ([T, at("yes", yes=0.8, no=0.2), ".", E], "yes", 4),
    "a full stop in the token": ([T, among("yes.", ("yes.", 0.5), ("yes", 0.3), ("no", 0.2)), E], "yes", 4),
    "bold, mark apart": ([T, "**", Y, "**", E], "yes", 4),
    "bold, mark merged": ([T, among("**yes", ("**yes", 0.5), ("yes", 0.3), ("**no", 0.2)), "**", E], "yes", 4),
    "quoted": ([T, '"', N, '"', E], "no", 1 / 4),
    "backticks": ([T, "`", Y, "`", E], "yes", 4),
    "ye + s": ([T, at("ye", ye=0.8, no=0.2), "s", E], "yes", 4),
    "y + es": ([T, at("y", y=0.5, yes=0.3, n=0.2), "es", E], "yes", 4),
    "n + o": ([T, at("n", n=0.7, no=0.1, y=0.2), "o", E], "no", 1 / 4),
    "Y + ES": ([T, at("Y", Y=0.8, N=0.2), "ES", E], "yes", 4),
    "letter by letter": ([T, at("y", y=0.8, n=0.2), "e", "s", E], "yes", 4),
    "capital tag": ([W, "<ANSWER>", Y, "</ANSWER>"], "yes", 4),
    # The tag, split and merged.
    "tag in pieces": ([W, "<", "answer", ">", Y, "</", "answer", ">"], "yes", 4),
    "end of thinking merged with the tag": (["<think>why</think", "><", "answer", ">", Y, E], "yes", 4),
    "line feed merged with the tag": ([W, "<answer", ">\n", Y, "\n", E], "yes", 4),
    "line feed apart": ([T, "\n", N, "\n", E], "no", 1 / 4),
    "line feed merged with the word": ([T, among("\nyes", ("\nyes", 0.6), ("yes", 0.2), ("\nno", 0.2)), E], "yes", 4),
    "no merged with the tag": ([W, "<answer", among(">No", (">No", 0.9), (">Yes", 0.1)), E], "no", None),
    "yes merged with the tag": ([W, "<answer", among(">yes", (">yes", 0.6), (">", 0.4)), E], "yes", None),
    "closing tag merged with the word": ([T, among("yes</", ("yes</", 0.8), ("no</", 0.2)), "answer>"], "yes", 4),
    "all in one token": ([T + "yes" + E], "yes", None),
    "a character cut across tokens before": (["<think>", At(b"\xc3"), At(b"\xa9"), "</think><answer>", Y, E], "yes", 4),
    # What the server reports, and what it does not.
    "no not reported": ([T, at("yes", yes=0.96, sure=0.01), E], "yes", ("no", 0.96 / 0.03)),
    "yes not reported": ([T, at("no", no=0.96, none=0.01), E], "no", ("yes", 0.03 / 0.96)),
    "the sampled token alone": ([T, at("yes", own=0.75), E], "yes", ("no", 3)),
    "no tokens": ([], "empty reply", None),
    "no log-probability at all": ([T, "yes", E], "yes", ("no", math.exp(-0.1) / (1 - math.exp(-0.1)))),
    "the sentinel on no": ([T, among("yes", ("yes", 0.96), ("no", None), ("x", 0.04)), E], "yes", ("no", math.inf)),
    "the sentinel on yes": ([T, among("no", ("no", 0.96), ("yes", None), ("x", 0.04)), E], "no", ("yes", 0.0)),
    "the sentinel on a third word": ([T, among("yes", ("yes", 0.8), ("no", 0.2), ("x", None)), E], "yes", 4),
    "the sentinel on the sampled word": ([T, among("no", ("no", None), ("yes", 0.9)), E], "no", ("no", 9)),
    "the sentinel on all": ([T, among("yes", ("yes", None), ("no", None)), E], "yes", None),
    "the sentinel as the only number": ([T, at("yes", own=None), E], "yes", None),
    "nan for no": ([T, at("yes", yes=0.8, no=math.nan, x=0.2), E], "yes", ("no", 0.8 / 2**-23)),
    "nan for all": ([T, at("yes", yes=math.nan, no=math.nan), E], "yes", None),
    "minus infinity for all": ([T, at("yes", yes=-math.inf, no=-math.inf), E], "yes", None),
    "plus infinity": ([T, at("yes", yes=math.inf, no=0.2), E], "yes", None),
    "logits for log-probabilities": ([T, among("yes", ("yes", math.exp(7.5)), ("no", math.exp(3.0))), E], "yes", None),
    "probabilities above one in all": ([T, at("yes", yes=0.9, no=0.9), E], "yes", None),
    "a token listed twice": ([T, among("yes", ("yes", 0.8), ("yes", 0.8), ("no", 0.2)), E], "yes", 4),
    "two tokens of one text": ([T, among("yes", ("yes", 0.7), ("yes", 0.1), ("no", 0.2)), E], "yes", 4),
    "half a character among the others": (
        [T, among("yes", ("yes", 0.8), ("no", 0.1), (b"\xe2\x80", 0.1)), E],
        "yes",
        8,
    ),
    "not and none are not no": ([T, at("no", no=0.4, nothing=0.2, none=0.2, yes=0.2), E], "no", 1 / 2),
    "the word was sampled against the odds": ([T, at("yes", yes=0.2, no=0.8), E], "yes", 1 / 4),
    # Words and tags in the rationale.
    "notable": (["<think>This is notable", "</think><answer>", Y, E], "yes", 4),
    "another": (["<think>It shows ", at("another", no=0.9, yes=0.1), "</think><answer>", Y, E], "yes", 4),
    "know": (["<think>That we k", at("no", no=0.9, yes=0.1), "w</think><answer>", Y, E], "yes", 4),
    "noon": (["<think>At noon: ", at("no", no=0.9, yes=0.1), "</think><answer>", Y, E], "yes", 4),
    "yesterday": (["<think>", at("yes", no=0.1, yes=0.9), "terday</think><answer>", N, E], "no", 1 / 4),
    "an answer in the thinking": (["<think>So <answer>", Y, "</answer>? But</think><answer>", N, E], "no", 1 / 4),
    "two thoughts": (["<think>a <answer>", Y, "</think>b</think><answer>", N, E], "no", 1 / 4),
    "an answer in the thinking alone": (["<think>So <answer>", Y, "</answer></think>"], "no answer", None),
    "notable without an answer": (["<think>This is notable</think>"], "no answer", None),
    # No tag, no word, another word.
    "the bare word": ([Y], "no answer", None),
    "the word without a tag": ([W, N], "no answer", None),
    "prose that ends in no": (["It is not about that. ", N], "no answer", None),
    "another tag": ([W, "<verdict>", Y, "</verdict>"], "no answer", None),
    "maybe": ([T, at("maybe", maybe=0.8, yes=0.2), E], "not yes/no", None),
    "not": ([T, at("not", no=0.2, yes=0.2), E], "not yes/no", None),
    "none": ([T, "none", E], "not yes/no", None),
    "no + ne": ([T, N, "ne", E], "not yes/no", None),
    "no doubt": ([T, N, " doubt", E], "not yes/no", None),
    "yes and no": ([T, Y, " and no", E], "not yes/no", None),
    "n/a": ([T, at("n", n=0.8, y=0.2), "/a", E], "not yes/no", None),
    "an empty answer": ([T, E], "not yes/no", None),
    "1": ([T, "1", E], "not yes/no", None),
    "sí": ([T, "sí", E], "not yes/no", None),
    "是": ([T, "是", E], "not yes/no", None),
    "oui": ([T, "oui", E], "not yes/no", None),
    "нет": ([T, "нет", E], "not yes/no", None),
    "nö": ([T, at("n", n=0.8, y=0.2), "ö", E], "not yes/no", None),
    "non": ([T, N, "n", E], "not yes/no", None),
    "full width": ([T, "ｙｅｓ", E], "not yes/no", None),
    "two answers that differ": ([T, Y, E, "<answer>", N, E], "two answers", None),
    "two answers that agree": ([T, at("yes", yes=0.6, no=0.4), E, "<answer>", Y, E], "yes", 4),
    "the prompt's own words": ([f"<think>{ECHO}</think><answer>", Y, E], "echoes the prompt", None),
    # Cut off or refused.
    "blank": (["\n", " "], "empty reply", None),
    "cut in the thinking": (["<think>The bridge and no"], "truncated", None),
    "cut after an answer in the thinking": (["<think>So <answer>", Y, E], "truncated", None),
    "cut after the thinking": ([W], "no answer", None),
    "cut in the tag": ([W, "<answ"], "no answer", None),
    "cut after the tag": ([T], "truncated", None),
    "cut in the word": ([T, at("ye", ye=0.8, no=0.2)], "not yes/no", None),
    "stopped after the word": ([T, Y], "yes", 4),
    "stopped in the closing tag": ([T, Y, "</"], "yes", 4),
    "a refusal": (["I'm sorry, but I can't help with that."], "no answer", None),
    "a control token after the word": ([T, Y, "<|im_end|>"], "yes", 4),
}

FLAGGED = {
    "truncated, says the server": ([T, Y, E, " and then"], TRUNCATED, "truncated"),
    "truncated in the word": ([T, N], TRUNCATED, "truncated"),
    "refused, says the server": ([T, Y, E], REFUSED, "refused"),
    "refused with nothing": ([], REFUSED, "refused"),
}


def test_the_table_is_as_long_as_it_claims():
    assert len(TABLE) + len(FLAGGED) >= 60


@pytest.mark.parametrize(("parts", "expected", "odds"), TABLE.values(), ids=TABLE.keys())
def test_a_reply_says_what_it_says_and_no_more(parts, expected, odds):
    reply = reply_of(parts)
    if expected not in ("yes", "no"):
        with pytest.raises(UnparsableReply) as refused:
            judged(reply)
        assert refused.value.reason == expected
        return
    judgement = judged(reply)
    margin = judgement.margin

    assert judgement.label == expected
    assert judgement.confidence_source == ("label_only" if odds is None else "logprobs")
    if odds is None:
        assert margin is None
        return
    censored, odds = odds if isinstance(odds, tuple) else (None, odds)
    assert margin.censored == censored
    assert margin.delta == pytest.approx(max(-LIMIT, min(LIMIT, math.log(odds) if odds else -LIMIT)), abs=2e-4)
    assert 0.0 < margin.label_mass <= 1.0


@pytest.mark.parametrize(("parts", "flags", "reason"), FLAGGED.values(), ids=FLAGGED.keys())
def test_what_the_server_says_of_a_reply_comes_first(parts, flags, reason):
    with pytest.raises(UnparsableReply) as refused:
        judged(reply_of(parts, **flags))

    assert refused.value.reason == reason


@pytest.mark.parametrize("word", ["yes", "no"])
def test_a_reply_that_is_cut_anywhere_says_its_word_or_nothing(word):
    whole = f"<think>It is notable, yes. No one knows <answer>.</think>\n<answer>\n {word}\n</answer>"
    said = whole.index(word, whole.rindex("<answer>")) + len(word)
    for end in range(len(whole) + 1):
        try:
            label = judged(TeacherReply(whole[:end])).label
        except UnparsableReply:
            label = ""
        assert label in ((word, "") if end >= said else ("",))
        assert label == word or end not in (said, said + 1, said + 2, said + 3, len(whole))
