"""The margin against the truth: decisions by models whose whole distribution is known, cut to what a server reports."""

import math
import random
from collections import Counter
from itertools import accumulate

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from prompts.margin import LIMIT, decision_margin
from schemas.token import Token

# How tokenizers in use cut text before they merge: by words with a leading space (GPT-2), by letters with any one
# character before them (Qwen, cl100k), by lone letters and digits, and not at all but at line feeds.
SPLITS = {
    "words": r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+",
    "letters": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    "lone": r"\p{L}|\p{N}|[^\p{L}\p{N}]+",
    "lines": r"[^\n]+|\n",
}
FORMS = ("yes", "no", "Yes", "No", "YES", "NO", " yes", " no", "\nyes", "\nNo", "**Yes**", '"no"')
FRAMES = ("<think>It fits.</think><answer>{}</answer>", "<think>\nNot another\n</think>\n<answer>{}</answer>\n")
STARTS = {"yes": ("y", "ye", "yes"), "no": ("n", "no")}
MARKS = " \t\r\n*_\"'`:([{"
DECISIONS = 500  # a tokenizer


def corpus(rng):
    said = [
        "It is notable that no one knows.",
        "Yes, another flood.",
        "NO ENTRY",
        "Not yet.",
        "yesterday at noon",
        "Why?",
    ]
    for _ in range(400):
        yield rng.choice(FRAMES).format(rng.choice(FORMS)) + rng.choice(said) + rng.choice(("", "\n", " "))


@pytest.fixture(scope="module", params=SPLITS)
def tokenizer(request):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLITS[request.param]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=450, initial_alphabet=alphabet, show_progress=False, max_token_length=9)
    tokenizer.train_from_iterator(corpus(random.Random(0)), trainer)
    return tokenizer


def word_of(text):
    """The word that a token starts, by a rule of its own: what ``spelling_of`` is tested against."""
    start = text.strip(MARKS).lower()
    for word, starts in STARTS.items():
        spelled = start[: len(word)] == word and not start[len(word) : len(word) + 1].isalpha()
        if spelled or text.lstrip(MARKS).lower() in starts:
            return word
    return None


def test_the_margin_s_interval_holds_the_truth(tokenizer):
    rng = random.Random(7)
    vocabulary = [tokenizer.decode([number]) for number in range(tokenizer.get_vocab_size())]
    words = [word_of(text) for text in vocabulary]
    outcomes = Counter()
    for _ in range(DECISIONS):
        ids, place, merged = decide(tokenizer, rng)
        probabilities = distribution(rng, words, vocabulary, ids[place])
        tokens = [Token(vocabulary[number].encode(), 0.0) for number in ids]
        tokens[place] = reported(rng, vocabulary, probabilities, ids[place])
        margin = decision_margin(tokens)
        if margin is None:
            outcomes["merged" if merged else "unseen"] += 1
            assert merged or tokens[place].logprob < -9000
            continue
        assert not merged
        mass = {word: sum(p for p, of in zip(probabilities, words, strict=True) if of == word) for word in STARTS}
        truth = clamped(log(mass["yes"]) - log(mass["no"]))
        assert margin.lo - 1e-9 <= truth <= margin.hi + 1e-9
        assert margin.lo <= margin.delta <= margin.hi
        assert margin.label_mass <= mass["yes"] + mass["no"] + 1e-9
        outcomes[margin.censored or "both"] += 1
    assert outcomes.keys() >= {"both", "yes", "no", "unseen"}
    assert outcomes["both"] + outcomes["yes"] + outcomes["no"] >= DECISIONS // 3


def decide(tokenizer, rng):
    """The token ids of a reply, the place of the one that holds the answer's first letter, and whether it is merged."""
    frame, form = rng.choice(FRAMES), rng.choice(FORMS)
    ids = tokenizer.encode(frame.format(form)).ids
    texts = [tokenizer.decode([number]) for number in ids]
    letter = frame.index("{}") + len(form) - len(form.lstrip(MARKS))
    ends = list(accumulate(map(len, texts)))
    place = next(index for index, end in enumerate(ends) if end > letter)
    before = texts[place][: letter - (ends[place] - len(texts[place]))]
    return ids, place, bool(before.strip(MARKS))


def distribution(rng, words, vocabulary, sampled):
    """Probabilities of the whole vocabulary; at times a grammar allows the starts of both words alone."""
    spread, lean = rng.choice((0.5, 1.0, 3.0)), {"yes": rng.gauss(3, 4), "no": rng.gauss(3, 4), None: 0.0}
    logits = [rng.gauss(lean[word], spread) for word in words]
    logits[sampled] += rng.uniform(0, 4)
    allowed = {start for starts in STARTS.values() for start in starts}
    if vocabulary[sampled] in allowed and rng.random() < 0.4:  # a grammar samples nothing else
        logits = [logit if text in allowed else -math.inf for text, logit in zip(vocabulary, logits, strict=True)]
    largest = max(logits)
    total = sum(math.exp(logit - largest) for logit in logits)
    return [math.exp(logit - largest) / total for logit in logits]


def reported(rng, vocabulary, probabilities, sampled):
    """What a server lists of a position: the k likeliest, with -9999 for what a grammar forbids.

    Of a sampled token that is not among them some list the log-probability as well, and some say -9999.
    """
    best = sorted(range(len(vocabulary)), key=probabilities.__getitem__, reverse=True)[: rng.randint(1, 20)]
    listed = [(vocabulary[number].encode(), log(probabilities[number])) for number in best]
    own = (vocabulary[sampled].encode(), log(probabilities[sampled]))
    if sampled not in best:
        own = rng.choice((own, (own[0], -9999.0)))
        listed += rng.choice(([], [own]))
    return Token(*own, tuple(listed))


def log(probability):
    return math.log(probability) if probability > 0.0 else -9999.0


def clamped(delta):
    return max(-LIMIT, min(LIMIT, delta))
