import math
import random
from dataclasses import replace

import pytest

from prompts.margin import LIMIT, decision_margin, spelling_of
from schemas.token import Token


def log(probability):
    return math.log(probability)


def tokens_of(*texts, at, alternatives, sampled=None):
    """Tokens of a reply; the one at index ``at`` has the alternatives {text: probability}."""
    pairs = tuple((text.encode(), log(p)) for text, p in alternatives.items())
    own = alternatives.get(texts[at], sampled)
    return [
        Token(text.encode(), log(own) if index == at else 0.0, pairs if index == at else ())
        for index, text in enumerate(texts)
    ]


SURE = {"yes": 0.9, "no": 0.1}


@pytest.mark.parametrize(
    ("texts", "at", "alternatives", "delta"),
    [
        (("<answer>", "yes", "</answer>"), 1, SURE, log(9)),
        (("<answer>", "no"), 1, SURE, log(9)),
        (("<", "answer", ">", "yes", "</", "answer", ">"), 3, SURE, log(9)),
        (("</think", "><", "answer", ">", "yes"), 4, SURE, log(9)),
        (("<think>no</think>", "<answer>\n", "yes"), 2, SURE, log(9)),
        (("<answer>", "\n", "yes"), 2, SURE, log(9)),
        (("<answer>", " yes"), 1, {" yes": 0.6, " no": 0.4}, log(1.5)),
        (("<answer>", "**", "Yes", "**"), 2, {"Yes": 0.5, "yes": 0.25, "No": 0.2, "no": 0.05}, log(3)),
        (("<answer>", "y", "es"), 1, {"y": 0.8, "n": 0.2}, log(4)),
        (("<answer>", "yes</"), 1, {"yes</": 0.75, "no</": 0.25}, log(3)),
        (("<answer>", "NO."), 1, {"NO.": 0.75, "yes": 0.25}, -log(3)),
        (("<ANSWER>", "yes"), 1, SURE, log(9)),
        (("<think><answer>no</answer></think><answer>", "yes"), 1, SURE, log(9)),
        (("<answer>yes</answer> or <answer>", "no"), 1, {"no": 0.75, "yes": 0.25}, -log(3)),
        (("<answer>", "no"), 1, {"no": 0.5, "not": 0.2, "none": 0.2, "yes": 0.1}, -log(5)),
        (("<answer>", "yes"), 1, {"yes": 0.5, "yesterday": 0.4, "no": 0.1}, log(5)),
        (("é<answer>", "yes"), 1, SURE, log(9)),
    ],
)
def test_the_margin_adds_up_the_spellings_at_the_first_letter_of_the_answer(texts, at, alternatives, delta):
    margin = decision_margin(tokens_of(*texts, at=at, alternatives=alternatives))

    assert margin.delta == pytest.approx(delta)
    assert (margin.lo, margin.hi) == pytest.approx((delta, delta))
    assert margin.censored is None


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [Token(b"yes", 0.0, ((b"yes", 0.0),))],
        [Token(b"<answer>", 0.0)],
        [Token(b"<answer>", 0.0), Token(b"\n", 0.0)],
        [Token(b"<answer", 0.0), Token(b">yes", -0.1, ((b">yes", -0.1), (b">no", -2.3)))],
        [Token(b"<answer", 0.0), Token(b">No", -0.1, ((b">No", -0.1), (b">", -2.3)))],
        [Token(b"<answer", 0.0), Token(b">No", -0.1, ((b">No", -0.1), (b"no", -2.3)))],
        [Token(b"<answer>yes</answer>", 0.0)],
        tokens_of("<answer>", "maybe", at=1, alternatives={"maybe": 0.9, "yes": 0.1}),
        tokens_of("<answer>", "not", at=1, alternatives={"not": 0.9, "no": 0.1}),
        tokens_of("<answer>", "no", "ne", at=1, alternatives=SURE),
        tokens_of("<answer>", "no", "é", at=1, alternatives=SURE),
        tokens_of("<think>so <answer>", "yes", "</answer></think>", at=1, alternatives=SURE),
        [Token(b"<answer>", 0.0), Token(b"yes", -9999.0, ((b"A", -0.1), (b"B", -2.0)))],
        [Token(b"<answer>", 0.0), Token(b"yes", math.nan)],
        [Token(b"<answer>", 0.0), Token(b"yes", -math.inf)],
    ],
)
def test_there_is_no_margin_where_the_decision_cannot_be_told(tokens):
    assert decision_margin(tokens) is None


def test_a_word_that_was_not_reported_leaves_the_finite_end_of_the_interval():
    # Three alternatives, 0.04 unreported: hidden spellings of no hold at most min(0.04, 16 * 0.01).
    margin = decision_margin(
        tokens_of("<answer>", "yes", at=1, alternatives={"yes": 0.93, "Maybe": 0.02, "Sure": 0.01})
    )

    assert margin.censored == "no"
    assert margin.delta == margin.lo == pytest.approx(log(0.93 / 0.04))
    assert margin.hi == LIMIT


def test_the_other_side_is_censored_alike():
    margin = decision_margin(tokens_of("<answer>", "no", at=1, alternatives={"no": 0.9, "x": 0.001}))

    assert margin.censored == "yes"
    assert margin.delta == margin.hi == pytest.approx(-log(0.9 / 0.016))
    assert margin.lo == -LIMIT


def test_unreported_mass_opens_the_interval_on_both_sides():
    margin = decision_margin(tokens_of("<answer>", "yes", at=1, alternatives={"yes": 0.5, "no": 0.3}))

    assert margin.delta == pytest.approx(log(0.5 / 0.3))
    assert margin.lo == pytest.approx(log(0.5 / 0.5))
    assert margin.hi == pytest.approx(log(0.7 / 0.3))


def test_a_decision_put_off_by_white_space_could_be_either():
    margin = decision_margin(tokens_of("<answer>", "yes", at=1, alternatives={"yes": 0.6, "no": 0.2, "\n": 0.2}))

    assert (margin.lo, margin.delta, margin.hi) == pytest.approx((log(0.6 / 0.4), log(3), log(0.8 / 0.2)))


def test_masked_alternatives_are_dropped_and_mean_that_nothing_is_hidden():
    alternatives = ((b"yes", log(0.8)), (b"no", log(0.2)), (b"maybe", -9999.0))
    margin = decision_margin([Token(b"<answer>", 0.0), Token(b"yes", log(0.8), alternatives)])

    assert (margin.lo, margin.hi) == pytest.approx((log(4), log(4)))


def test_where_every_spelling_is_listed_nothing_is_hidden_however_little_they_are():
    alternatives = ((b"yes", log(0.002)), (b"no", log(0.001)), (b" ", log(0.001)))
    decided = Token(b"yes", log(0.002), alternatives, complete=True)
    margin = decision_margin([Token(b"<answer>", 0.0), decided])

    assert (margin.lo, margin.delta, margin.hi) == pytest.approx((log(1), log(2), log(3)))
    assert margin.label_mass == pytest.approx(0.003)
    words_alone = replace(decided, alternatives=alternatives[:2])
    assert decision_margin([words_alone], continues=True).lo == pytest.approx(log(2))
    assert decision_margin([Token(b"<answer>", 0.0), replace(decided, complete=False)]).hi > log(9)


def test_a_word_that_was_decided_stays_it_where_white_space_is_likelier():
    alternatives = ((b"yes", log(0.2)), (b"no", log(0.1)), (b" ", log(0.7)))

    margin = decision_margin([Token(b"yes", log(0.2), alternatives, complete=True)], continues=True)
    assert margin.delta == pytest.approx(log(2))


def test_an_unlikely_sampled_token_does_not_shrink_what_may_be_hidden():
    # The server lists the two likeliest and appends the sampled one; hidden tokens may be far likelier than that.
    alternatives = {"Sure": 0.5, "yes": 0.2, "no": 1e-6}
    margin = decision_margin(tokens_of("<answer>", "no", at=1, alternatives=alternatives))

    assert margin.lo == pytest.approx(log(0.2 / (1e-6 + 0.299999)))


def test_a_sampled_token_outside_the_list_counts_once():
    inside = tokens_of("<answer>", "no", at=1, alternatives={"yes": 0.7, "no": 0.2})
    outside = tokens_of("<answer>", "no", at=1, alternatives={"yes": 0.7}, sampled=0.2)

    assert decision_margin(inside).delta == pytest.approx(decision_margin(outside).delta)


def test_of_an_unlikely_sampled_token_the_sentinel_does_not_mean_that_nothing_is_hidden():
    alternatives = ((b"yes", log(0.9995)), (b"no", -9999.0))
    margin = decision_margin([Token(b"<answer>", 0.0), Token(b"no", -9999.0, alternatives)])

    assert margin.censored == "no"
    assert margin.lo == pytest.approx(log(0.9995 / 0.0005))


def test_a_probability_that_rounds_to_one_leaves_what_32_bits_cannot_tell():
    margin = decision_margin([Token(b"<answer>", 0.0), Token(b"yes", 0.0, ((b"yes", 0.0),))])

    assert margin.delta == pytest.approx(log(2.0**23))


def test_a_token_that_is_listed_twice_counts_once_and_two_tokens_of_one_text_count_both():
    twice = Token(b"yes", log(0.5), ((b"yes", log(0.5)), (b"yes", log(0.5)), (b"no", log(0.5))))
    both = Token(b"yes", log(0.5), ((b"yes", log(0.5)), (b"yes", log(0.25)), (b"no", log(0.25))))

    assert decision_margin([Token(b"<answer>", 0.0), twice]).delta == pytest.approx(0.0)
    assert decision_margin([Token(b"<answer>", 0.0), both]).delta == pytest.approx(log(3))


@pytest.mark.parametrize("logprobs", [(2.5, 1.0), (math.inf, -1.0), (-0.01, -0.02)])
def test_numbers_that_are_no_log_probabilities_give_no_margin(logprobs):
    alternatives = tuple(zip((b"yes", b"no"), logprobs, strict=True))

    assert decision_margin([Token(b"<answer>", 0.0), Token(b"yes", logprobs[0], alternatives)]) is None


def test_the_mass_of_both_words_tells_how_much_of_the_decision_they_are():
    margin = decision_margin(tokens_of("<answer>", "yes", at=1, alternatives={"yes": 0.2, "no": 0.05, "maybe": 0.75}))

    assert margin.label_mass == pytest.approx(0.25)


def test_tokens_that_spell_another_word_than_the_label_have_no_margin_for_it():
    tokens = tokens_of("<answer>", "yes", at=1, alternatives=SURE)

    assert decision_margin(tokens, label="yes").delta == pytest.approx(log(9))
    assert decision_margin(tokens, label="no") is None


@pytest.mark.parametrize("texts", [("yes",), ("y",), (" Yes",), ("\n", "yes"), ("yes", "</answer>"), ("**", "yes")])
def test_a_reply_that_goes_on_from_the_tag_starts_with_the_decision(texts):
    at = next(index for index, text in enumerate(texts) if "y" in text.lower())
    tokens = tokens_of(*texts, at=at, alternatives={texts[at]: 0.75, "no": 0.25})

    assert decision_margin(tokens, continues=True).delta == pytest.approx(log(3))
    assert decision_margin(tokens) is None


def test_only_the_sampled_token_bounds_the_margin_from_one_side():
    margin = decision_margin([Token(b"<answer>", 0.0), Token(b"yes", log(0.9))])

    assert (margin.censored, margin.hi) == ("no", LIMIT)
    assert margin.delta == pytest.approx(log(0.9 / 0.1))


def test_margins_are_clamped():
    margin = decision_margin([Token(b"<answer>", 0.0), Token(b"yes", 1e-7, ((b"yes", 1e-7), (b"no", -60.0)))])

    assert (margin.lo, margin.delta, margin.hi) == (LIMIT, LIMIT, LIMIT)


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        (b"yes", "yes"),
        (b" YES", "yes"),
        (b"\nYes.", "yes"),
        (b"y", "yes"),
        (b"Ye", "yes"),
        (b"yes</", "yes"),
        (b'"yes', "yes"),
        (b"no", "no"),
        (b"N", "no"),
        (b"no,", "no"),
        ("no。".encode(), "no"),
        (b"", "none yet"),
        (b" \n", "none yet"),
        (b"**", "none yet"),
        (b"not", "other"),
        (b"none", "other"),
        (b"n/a", "other"),
        (b"yesterday", "other"),
        ("noé".encode(), "other"),
        (b"</", "other"),
        (b"\xff", "other"),
        (b"1", "other"),
    ],
)
def test_tokens_are_classed_by_the_word_they_start(text, spelling):
    assert spelling_of(text) == spelling


FORMS = {
    "yes": ["yes", " yes", "Yes", " Yes", "YES", "y", "yes.", "ye"],
    "no": ["no", " no", "No", " No", "NO", "n", "no.", "no</"],
    "other": ["maybe", "not", "none", "I", "The", "<", "1", "yesterday", "sure", "A", "B", "C", "D", "E"],
}


@pytest.mark.parametrize("seed", range(8))
def test_the_true_margin_lies_inside_the_interval(seed):
    rng = random.Random(seed)
    for _ in range(250):
        skew = rng.uniform(-9, 9)
        lean = {"yes": skew, "no": -skew, "other": rng.uniform(-6, 6)}
        mass = {form: math.exp(lean[kind] + rng.gauss(0, 2.5)) for kind, forms in FORMS.items() for form in forms}
        total = sum(mass.values())
        true = log(sum(mass[form] for form in FORMS["yes"])) - log(sum(mass[form] for form in FORMS["no"]))

        ranked = sorted(mass, key=mass.__getitem__, reverse=True)
        reported = ranked[: rng.choice((2, 3, 5, 10, 20))]
        sampled = rng.choice(FORMS["yes"][:5] + FORMS["no"][:5])
        if rng.random() < 0.5 and sampled not in reported:
            reported = [*reported, sampled]
        alternatives = {form: mass[form] / total for form in reported}
        margin = decision_margin(
            tokens_of("<answer>", sampled, at=1, alternatives=alternatives, sampled=mass[sampled] / total)
        )
        assert margin.lo - 1e-9 <= max(-LIMIT, min(LIMIT, true)) <= margin.hi + 1e-9
