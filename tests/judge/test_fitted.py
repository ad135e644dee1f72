"""What a teacher does without that its server lacks, and which judges are refused before any work."""

from __future__ import annotations

import pytest

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import check_engines, find_engines, require_reach
from prompts.margin import LIMIT
from schemas.capabilities import Capabilities
from tests.support.probe_double import LADDER, PAIR, Double, judge, settings
from tests.support.scripted_server import ScriptedServer
from transforms.judge.confidence import least_margin


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("transforms.engines.openai.probing.probed_server.pause_s", lambda *_: 0.0)


@pytest.mark.parametrize("task", ["judge", "write_queries"])
def test_of_a_busy_server_nothing_is_known(task):
    with ScriptedServer(Double(any="busy")) as server:
        teacher, capabilities = judge(server, prior="prefill", temperature=1.0).fitted(task)

    assert teacher == judge(server, prior="prefill", temperature=1.0)
    assert capabilities == Capabilities(server=server.base_url)


def test_log_probabilities_that_may_follow_the_temperature_are_not_taken_for_the_model_s():
    with ScriptedServer(Double(any="busy")) as server:
        teacher, capabilities = judge(server).fitted("judge")

    assert teacher.served.lacking == ("logprobs",)
    assert "did not show whether its log-probabilities follow the temperature, which is 0" in capabilities.lacks


@pytest.mark.parametrize(
    ("double", "lacking", "line"),
    [
        (
            Double(logprobs="ignored", prefill="ignored"),
            ("logprobs", "logprobs_prefill"),
            "gives no log-probabilities (ignored): margins come from sampling instead of from logprobs, "
            "logprobs_prefill",
        ),
        (
            Double(logprobs="refused"),
            ("logprobs", "logprobs_prefill"),
            "gives no log-probabilities (refused): margins come from sampling instead of from logprobs, "
            "logprobs_prefill",
        ),
        (
            Double(prefill="ignored"),
            ("logprobs_prefill",),
            "does not go on from the start of an answer (ignored): margins come from logprobs, then sampling instead "
            "of from logprobs_prefill",
        ),
        (
            Double(processed=True),
            ("logprobs",),
            "gives log-probabilities of temperature 0 instead of 1 (temperature: 1 is safe): margins come from "
            "logprobs_prefill, then sampling "
            "instead of from logprobs",
        ),
    ],
)
def test_a_judge_does_without_what_its_server_lacks_and_says_so_in_a_line(double, lacking, line):
    with ScriptedServer(double) as server:
        before = judge(server)
        teacher, capabilities = before.fitted("judge")

    assert capabilities.lacks == f"{server.base_url} {line}"
    assert teacher.served.lacking == teacher.ladder.lacking == lacking
    assert teacher.stamp() == before.stamp()
    assert teacher.ladder.rungs == LADDER  # by which a pair's first question is known to the journal


def test_at_temperature_1_processed_log_probabilities_are_the_model_s():
    with ScriptedServer(Double(processed=True)) as server:
        teacher, capabilities = judge(server, temperature=1.0).fitted("judge")

    assert (teacher.served.lacking, capabilities.lacks) == ((), "")


def test_a_judge_without_any_rung_left_is_told_of_another():
    with ScriptedServer(Double(logprobs="ignored")) as server:
        _, capabilities = judge(server, confidence=("logprobs",)).fitted("judge")

    assert "margins are null instead of from logprobs" in capabilities.lacks


def test_a_prior_that_the_server_cannot_tell_is_not_asked_for():
    with ScriptedServer(Double(prefill="ignored")) as server:
        teacher, capabilities = judge(server, confidence=("logprobs",), prior="prefill").fitted("judge")

    assert teacher.prior is None
    assert capabilities.lacks.endswith("does not go on from the start of an answer (ignored): delta_prior is null")


def test_what_else_is_less_than_was_asked_for_is_told():
    models = {"data": [{"id": "m", "max_model_len": 4096}]}
    with ScriptedServer(Double(models=models)) as server:
        _, of_judge = judge(server, top_logprobs=20).fitted("judge")
        _, of_writer = judge(server, max_tokens=100).fitted("write_queries")

    assert "reports only 5 of 20 alternatives of a token" in of_judge.lacks
    assert "has a context of 4096 tokens, which max_tokens (4096) fills" in of_judge.lacks
    assert of_writer.lacks == ""


def test_a_teacher_that_lacks_log_probabilities_does_not_ask_for_them():
    with ScriptedServer(Double(logprobs="refused")) as server:
        teacher, _ = judge(server).fitted("judge")
        reply = teacher.load().reply(PAIR)

    assert reply.text == "one"
    assert "logprobs" not in server.asked[-1].body


def test_the_engines_of_a_run_are_fitted_to_their_servers():
    with ScriptedServer(Double(logprobs="ignored", json_schema="ignored")) as server:
        engines = find_engines(load_recipe("demo", settings(server)))
        as_served, servers = check_engines(engines)

    assert (as_served.judge.served.lacking, as_served.writer.served.lacking) == (("logprobs", "logprobs_prefill"), ())
    assert as_served.stamps() == engines.stamps()
    assert set(servers) == {"writer", "judge"}
    assert "ignores JSON schemas: replies are parsed all the same" in servers["writer"].lacks
    assert "gives no log-probabilities" in servers["judge"].lacks


def test_a_server_that_cannot_do_a_role_s_work_stops_the_run_before_it_begins():
    with ScriptedServer(Double(json_schema="refused")) as server:
        engines = find_engines(load_recipe("demo", settings(server)))
        with pytest.raises(RecipeError, match=r"^recipe key synthesize\.teacher: .*set json_schema: false"):
            check_engines(engines)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"confidence": ["sampling"]}, r"margins from sampling are at least -2\.20.*curate.alpha1 to -2\.19 or conf"),
        ({"confidence": ["verbalized"]}, r"margins from verbalized are at least -5\.30, .* at most -6 \(curate"),
        ({"confidence": ["sampling"], "samples": 402}, r"at least -6\.00, .*samples: 403, .* -ln\(403 \+ 1\)"),
        ({"confidence": []}, r"judgements have no margin, .*; set confidence: \[sampling\] with samples: 403"),
    ],
)
def test_a_recipe_whose_margins_cannot_reach_alpha1_is_refused_with_the_arithmetic(options, line):
    recipe = load_recipe("demo", settings(ScriptedServer([]), **options))

    with pytest.raises(RecipeError, match=rf"^judge.teacher: .*{line}"):
        find_engines(recipe)


@pytest.mark.parametrize(
    ("options", "others"),
    [
        ({"confidence": ["sampling"], "samples": 403}, []),
        ({"confidence": ["sampling"]}, ["curate.alpha1=-2.19"]),
        ({"confidence": ["verbalized"]}, ["curate.alpha1=-5.3"]),
        ({"confidence": ["sampling", "logprobs"]}, []),
        ({"confidence": [], "prior": "prefill"}, ["judge.no_rationale_below=-8"]),
    ],
)
def test_a_recipe_whose_margins_can_reach_alpha1_is_taken(options, others):
    assert find_engines(load_recipe("demo", [*settings(ScriptedServer([]), **options), *others]))


@pytest.mark.parametrize(
    ("double", "refused"),
    [
        (Double(), ""),
        (Double(logprobs="ignored"), "gives no log-probabilities"),
        (Double(logprobs="refused"), "gives no log-probabilities"),
        (Double(processed=True), "log-probabilities of temperature 0 instead of 1"),
    ],
)
def test_a_server_by_which_no_margin_can_reach_alpha1_is_refused_with_what_it_lacks(double, refused):
    with ScriptedServer(double) as server:
        recipe = load_recipe("demo", settings(server))
        engines, servers = check_engines(find_engines(recipe))
        if refused:
            with pytest.raises(RecipeError, match=rf"judgements have no margin, .*; {server.base_url} .*{refused}"):
                require_reach(recipe, engines.judge, servers["judge"].lacks)
        else:
            require_reach(recipe, engines.judge, servers["judge"].lacks)


def test_samples_tell_margins_of_a_server_whose_log_probabilities_follow_the_temperature():
    with ScriptedServer(Double(processed=True)) as server:
        teacher, _ = judge(server, confidence=("logprobs", "sampling")).fitted("judge")

    assert least_margin(teacher.ladder) == -LIMIT
