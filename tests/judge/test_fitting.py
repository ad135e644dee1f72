from contextlib import closing

import pytest

from pipeline.config import RecipeError, load_recipe
from prompts.evidence import DEFAULT_BUDGETS, EvidenceBudgets, evidence_cut
from prompts.judge import judge_prompt
from prompts.write_queries import queries_prompt
from schemas.check import InvalidRecord
from schemas.query import EvidenceCut
from schemas.video import AsrSegment, Evidence, MediaFacts, Video
from tests.support.ranking_records import ENGINE, query
from tests.support.scripted_server import Reply, ScriptedServer, completion
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.teacher import OpenAiTeacher, ServedTeacher
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import ContextOverflow, TeacherReply
from transforms.synthesize.write_queries import write_queries
from transforms.teacher.fitting import prompt_tokens, scaled_to_fit, text_tokens
from transforms.teacher.recorded_teacher import RecordedTeacher

SEEN = ("caption", "asr")
SAID = tuple(AsrSegment(float(n), n + 1.0, f"Sentence {n} of the speech.", 0.9) for n in range(40))
EVIDENCE = Evidence(caption="A tram stops. People get on. It leaves again. " * 10, asr=SAID)
TRAM = Video("tram", "/tram.mp4", MediaFacts("0" * 64, 1), EVIDENCE)
PAIR = Pair(query(), TRAM, None, is_positive=False)
REPLY = TeacherReply("<think>It is another.</think><answer>no</answer>")


class ShortTeacher(ScriptedTeacher):
    """One that states how much it reads."""

    prompt_tokens = None


def render(budgets):
    return judge_prompt(EVIDENCE, SEEN, "tram", query().text, budgets)


def judged(script, room=None):
    teacher = ShortTeacher(script)
    teacher.prompt_tokens = room
    return judge_pair(teacher, ENGINE, PAIR, JudgeOptions(SEEN)), teacher.asked


def test_what_a_budget_cuts_is_in_the_judgement():
    budgets = EvidenceBudgets(caption=60, asr=100)
    judgement = judge_pair(ShortTeacher(lambda _: REPLY), ENGINE, PAIR, JudgeOptions(SEEN, budgets=budgets))

    assert judgement.evidence_cut == evidence_cut(EVIDENCE, SEEN, budgets)
    assert [(cut.modality, cut.shown) for cut in judgement.evidence_cut] == [("caption", 59), ("asr", 100)]
    assert judge_pair(ShortTeacher(lambda _: REPLY), ENGINE, PAIR, JudgeOptions(SEEN)).evidence_cut == ()


def test_a_prompt_that_fits_is_left_as_it_is():
    room = prompt_tokens(render(DEFAULT_BUDGETS))

    assert scaled_to_fit(EVIDENCE, DEFAULT_BUDGETS, render, room) == DEFAULT_BUDGETS
    assert judged(lambda _: REPLY, room)[1][0].prompt == render(DEFAULT_BUDGETS)


@pytest.mark.parametrize("spare", [1, 50, 150, 250])
def test_a_prompt_that_does_not_fit_is_cut_by_the_same_share_of_each_modality_until_it_does(spare):
    room = prompt_tokens(render(DEFAULT_BUDGETS)) - spare
    judgement, (asked,) = judged(lambda _: REPLY, room)

    assert room - 25 < prompt_tokens(asked.prompt) <= room
    shares = [cut.shown / cut.of for cut in judgement.evidence_cut]
    assert [cut.modality for cut in judgement.evidence_cut] == ["caption", "asr"]
    assert abs(shares[0] - shares[1]) < 0.15
    assert judgement.prompt_sha256 == asked.prompt.sha256 == judged(lambda _: REPLY, room)[0].prompt_sha256


def test_a_prompt_that_cannot_be_made_to_fit_is_never_sent():
    with pytest.raises(ContextOverflow, match="cannot be cut to the 100"):
        judged(lambda _: pytest.fail("it was asked"), 100)


def refuses_above(size):
    return lambda request: ContextOverflow("HTTP 400: too long") if len(request.prompt.user) > size else REPLY


def test_a_teacher_that_refuses_a_prompt_as_too_long_is_asked_about_half_of_it():
    whole = len(render(DEFAULT_BUDGETS).user)
    judgement, asked = judged(refuses_above(0.8 * whole))

    assert len(asked) == 2
    assert [round(cut.shown / cut.of, 1) for cut in judgement.evidence_cut] == [0.5, 0.5]


def test_it_is_asked_once_more_and_not_again():
    with pytest.raises(ContextOverflow):
        judged(refuses_above(10))


def refuses_long_prompts(request):
    return refuses_above(1500)(request)


def test_a_second_run_knows_that_a_prompt_was_too_long(tmp_path):
    engine = ScriptedEngine(refuses_long_prompts)
    silent = ScriptedEngine(lambda _: pytest.fail("it was asked"))
    for asked in (engine, silent):
        with closing(Journal(str(tmp_path))) as journal:
            judgement = judge_pair(RecordedTeacher(asked, journal), ENGINE, PAIR, JudgeOptions(SEEN))

    assert len(judgement.evidence_cut) == 2


def test_a_served_teacher_keeps_to_its_context_and_obeys_its_server():
    refusal = {"message": "This model's maximum context length is 700 tokens", "code": "context_length_exceeded"}
    with ScriptedServer([Reply({"error": refusal}, status=400), completion(REPLY.text)]) as server:
        engine = OpenAiTeacher(model="m", base_url=server.base_url, context_tokens=1100, max_tokens=100)
        judgement = judge_pair(ServedTeacher(engine, ChatClient(engine)), ENGINE, PAIR, JudgeOptions(SEEN))

    first, second = (asked.body["messages"][1]["content"] for asked in server.asked)
    assert prompt_tokens(render(DEFAULT_BUDGETS)) > 1000
    assert len(second) < len(first) < len(render(DEFAULT_BUDGETS).user)
    assert judgement.label == "no"


def test_a_context_without_room_for_a_prompt_is_refused():
    with pytest.raises(InvalidRecord, match="context_tokens must be more than max_tokens"):
        OpenAiTeacher(model="m", base_url="http://localhost:1/v1", context_tokens=4096)


@pytest.mark.parametrize("text", ["", "a", "plain words", "1234", "水が", "🔥", "\ud800"])
def test_every_text_has_an_estimate(text):
    assert 0 <= text_tokens(text) <= 3 * len(text) + 1


# Counted with Whisper's multilingual tokenizer, digits cut one by one.
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The river had risen above the old bridge by the morning, and volunteers carried sandbags.", 18),
        ("Rzeka wezbrała rano powyżej starego mostu, a ochotnicy nosili worki z piaskiem wzdłuż nabrzeża.", 39),
        ("Joki oli noussut aamulla vanhan sillan yläpuolelle.", 19),
        ("К утру река поднялась выше старого моста, и добровольцы несли мешки с песком.", 28),
        ("सुबह तक नदी पुराने पुल से ऊपर उठ गई थी।", 47),
        ("早上河水已经漫过旧桥,志愿者们沿着码头搬运沙袋。", 34),
        ("朝には川が古い橋を越え、ボランティアが土嚢を運んだ。", 25),
        ("12:45 2031-03-14 1,024 99.5% 4711", 33),
        ('"GATE B12", "EUR 3,50/kg", "TEL +49 (0)30-123"', 34),
        ("🔥🔥 wow 😂 👍🏽 ✨", 16),
    ],
)
def test_the_estimate_is_rather_too_many_tokens_than_too_few(text, tokens):
    assert tokens <= text_tokens(text) <= 3 * tokens


def test_the_budgets_of_a_row_s_cuts_render_its_prompt_again():
    for budgets in (EvidenceBudgets(caption=60, asr=100), EvidenceBudgets(caption=3, asr=1), DEFAULT_BUDGETS):
        cuts = evidence_cut(EVIDENCE, SEEN, budgets)

        assert render(EvidenceBudgets.that_cut(cuts)) == render(budgets)


def test_budgets_are_keys_of_the_recipe():
    recipe = load_recipe("demo", ["judge.evidence.caption=100", "synthesize.evidence={asr: 7}"])

    assert recipe.judge.evidence == EvidenceBudgets(caption=100)
    assert recipe.synthesize.evidence == EvidenceBudgets(asr=7)
    with pytest.raises(RecipeError, match=r"judge\.evidence: the asr budget must be positive"):
        load_recipe("demo", ["judge.evidence.asr=0"])


def test_queries_are_written_from_prompts_that_fit_too():
    reply = (
        '{"queries": [{"evidence": ["caption: a tram"], "rationale": "It joins two.", "query": "where a tram stops", '
        '"query_type": "specific", "modalities": ["caption"]}]}'
    )
    teacher = ShortTeacher(lambda _: TeacherReply(reply))
    whole = queries_prompt(EVIDENCE, ("asr",), "tram", 1)
    teacher.prompt_tokens = prompt_tokens(whole) - 100

    (written,) = write_queries(teacher, ENGINE, TRAM, "caption", 1)
    (cut,) = write_queries(teacher, ENGINE, TRAM, "asr", 1)[0].evidence_cut

    assert written.evidence_cut == ()
    assert cut.modality == "asr"
    assert prompt_tokens(teacher.asked[1].prompt) <= teacher.prompt_tokens


def test_a_cut_shows_fewer_characters_than_there_are():
    with pytest.raises(InvalidRecord, match="fewer characters"):
        EvidenceCut("asr", 10, 10)
