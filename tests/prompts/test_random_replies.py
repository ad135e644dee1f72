"""Replies and tokens made by chance: no label without its word, no margin without its source, and nothing raises."""

import math
import random
import re
from collections import Counter

from prompts.margin import LIMIT, decision_margin, essential
from prompts.reply import UnparsableReply
from schemas.token import Token
from tests.support.ranking_records import ENGINE, query, video
from tests.support.scripted_teacher import ScriptedTeacher
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import Ladder, TeacherReply

PAIR = Pair(query(), video("pos", "A bridge that a flood closed."), None, is_positive=True)
RUNGS = ("logprobs", "logprobs_prefill", "sampling", "verbalized")

FRAGMENTS = (
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<",
        ">",
        "</",
        "answer",
        "think",
        "\n",
        " ",
        "**",
        '"',
        ".",
        ",",
    ),
    *("yes", "no", "Yes", "NO", "y", "es", "n", "o", "not", "notable", "another", "know", "noon", "yesterday", "maybe"),
    *("是", "нет", "é", "\u200b", "<|im_end|>", "<ANSWER>", "rationale", "I can't", "", "\x00", "\U0001f600"),
)
NUMBERS = (-0.0, -0.1, -0.7, -2.0, -9.0, -40.0, -800.0, -9999.0, -1e308, 0.01, 3.0, math.nan, math.inf, -math.inf)


def random_text(rng):
    """Fragments at random, often with a good reply among them."""
    texts = [rng.choice(FRAGMENTS) for _ in range(rng.randrange(8))]
    if rng.random() < 0.6:
        texts += ["<think>", *rng.choices(FRAGMENTS, k=2), "</think><answer>", rng.choice(("yes", "no")), "</answer>"]
    if rng.random() < 0.3:
        rng.shuffle(texts)
    return "".join(texts)


def random_token(rng, text):
    others = [rng.choice(FRAGMENTS).encode() for _ in range(rng.randrange(5))]
    numbers = NUMBERS if rng.random() < 0.3 else (-1.0, -2.0, -3.0)
    own = rng.choice(numbers)
    listed = [(other, rng.choice(numbers)) for other in others] + [(text, own)] * rng.randrange(3)
    return Token(text, own, tuple(listed))


def random_reply(rng):
    """A reply whose tokens cut its text anywhere, within characters too."""
    text = random_text(rng)
    data, tokens = text.encode(), []
    while data:
        length = rng.randint(1, 6)
        tokens.append(random_token(rng, data[:length]))
        data = data[length:]
    flags = {"truncated": rng.random() < 0.05, "refused": rng.random() < 0.05}
    return TeacherReply(text, tuple(tokens) if rng.random() < 0.8 else (), **flags)


def decided(text):
    """The word that stands at the decision of a reply, found by a rule of its own; "" where there is none."""
    answer = re.split("</think>", text, flags=re.IGNORECASE)[-1]
    found = re.search(r"(?si)^.*<answer>[\s*_\"'`]*(yes|no)(?![^\W\d_])", answer)
    return found[1].lower() if found else ""


def answer(rng, request, first):
    if request.confidence in ("logprobs", "label_only"):
        return first
    if request.confidence == "verbalized":
        return TeacherReply(rng.choice(("70", "7 %", "surely", "")))
    return random_reply(rng)


def test_no_reply_yields_a_label_without_its_word_or_a_margin_without_its_source():
    rng = random.Random(11)
    sources = Counter()
    for _ in range(3000):
        first, rungs = random_reply(rng), tuple(rng.sample(RUNGS, rng.randrange(5)))
        teacher = ScriptedTeacher(lambda request, first=first: answer(rng, request, first), Ladder(rungs, 3))
        try:
            judgement = judge_pair(teacher, ENGINE, PAIR, JudgeOptions())
        except UnparsableReply:
            continue
        assert judgement.label == decided(first.text) != ""
        assert (first.truncated, first.refused) == (False, False)
        assert judgement.confidence_source in (*rungs, "label_only")
        assert (judgement.confidence_source == "label_only") == (judgement.margin is None)
        sources[judgement.confidence_source] += 1
    assert sources.keys() == {*RUNGS, "label_only"}
    assert sum(sources.values()) > 500


def test_nothing_raises_for_tokens_made_by_chance():
    rng = random.Random(13)
    for _ in range(3000):
        if rng.random() < 0.5:
            tokens = [random_token(rng, rng.randbytes(rng.randrange(6))) for _ in range(rng.randrange(6))]
        else:
            tokens = random_reply(rng).tokens
        for continues in (False, True):
            margin = decision_margin(tokens, continues=continues)
            if margin is not None:
                assert -LIMIT <= margin.lo <= margin.delta <= margin.hi <= LIMIT
                assert 0.0 < margin.label_mass <= 1.0
        assert decision_margin(essential(tokens)) == decision_margin(tokens)
        assert b"".join(token.text for token in essential(tokens)) == b"".join(token.text for token in tokens)
