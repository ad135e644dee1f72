from pathlib import Path

import pytest
import yaml

from prompts.echo import echoes
from prompts.template import Template, load_template

TEMPLATE = Template(
    "t",
    'You judge. Say what you see, and why; never guess: "no rain at all" is one. {{evidence}}\n'
    "- base: a name\nReply <one to three sentences: what was seen and what follows from it for the searcher>, "
    "<yes|no>.\n---\n{{query}}",
)
OURS = tuple(map(load_template, ("judge", "judge_reworded", "write_queries")))


@pytest.mark.parametrize(
    "text",
    [
        "say what you see, and WHY",
        "Never guess",
        "No rain at all!",
        "«a name»",
        "one to three sentences",
        "One to three sentences: what was seen and what follows from it for the searcher.",
        "What was seen and what follows from it for the searcher is clear.",
        "what was seen and what follows from it",
        "one to three sentences: what was heard and what follows from it for a searcher",
    ],
)
def test_a_sentence_example_or_placeholder_of_the_prompt_is_an_echo(text):
    assert echoes(text, TEMPLATE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "No.",
        "It fits.",
        "what you see",
        "a guess is what you see and why",
        "What was seen and what follows from it is that the bridge was closed for a week",
        "evidence",
        "query",
    ],
)
def test_a_few_words_in_common_are_none(text):
    assert not echoes(text, TEMPLATE)


@pytest.mark.parametrize(
    "text",
    [
        "The evidence does not support it.",
        "It is about a similar topic, but another event.",
        "The evidence is silent on what the query hinges on: no mayor is named.",
        "The video is about another flood, at another place and time.",
        "Joins what is said of the fare with the sign; neither alone tells which line is meant.",
        "which line opened before its station was ready",
    ],
)
def test_honest_rationales_and_queries_are_none_of_this_project_s_prompts(text):
    assert not any(echoes(text, template) for template in OURS)


def test_nothing_that_the_sample_corpus_says_or_asks_is_an_echo(samples: Path):
    clips = yaml.safe_load((samples / "corpus.yaml").read_text("utf-8"))["clips"]
    said = [clip[key] for clip in clips for key in ("say", "title", "description") if key in clip]
    asked = [line.split("\t")[1] for line in (samples / "queries.tsv").read_text("utf-8").splitlines()]

    assert len(said) > 50
    assert not [text for text in (*said, *asked) if any(echoes(text, template) for template in OURS)]


@pytest.mark.parametrize("template", OURS, ids=lambda template: template.name)
def test_every_sentence_of_a_prompt_is_an_echo_of_it(template):
    system = template.source.partition("\n---\n")[0]
    sentences = [sentence for line in system.splitlines() for sentence in line.split(". ") if len(sentence.split()) > 7]

    assert len(sentences) > 7
    assert all(echoes(sentence, template) for sentence in sentences)


@pytest.mark.parametrize(
    "text",
    [
        "Why could anyone get beyond the end of the line after sailors went months without wages",
        "Why could anyone get beyond the line after sailors went months without wages",
    ],
)
def test_an_example_with_words_changed_as_small_models_change_them_is_an_echo(text):
    assert echoes(text, load_template("write_queries"))


def test_an_example_thought_with_words_changed_is_an_echo():
    assert echoes(
        "The boat lay idle because wages were owed and rain is not spoken of, so it is another event",
        load_template("judge"),
    )


@pytest.mark.parametrize(
    ("rationale", "patched"),
    [
        ("the crew was owed wages and would not put to sea and the boat stayed in port and", True),
        ("the crew had not been paid since the end of the year and would not put to sea so", True),
        ("The crew had not been paid since the company was sold, and the ferries stopped for a week in June.", False),
        ("The gauge shows that meltwater and no rain made the river rise, so this is another event.", False),
    ],
)
def test_what_is_patched_together_of_the_prompt_s_example_is_an_echo_and_what_shares_a_phrase_is_none(
    rationale, patched
):
    assert echoes(rationale, load_template("judge")) is patched
