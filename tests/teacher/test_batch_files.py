"""Batch files: what is asked and written, and that nothing is lost or asked twice."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.batch.read import read_batch
from schemas.query import Query
from tests.support.batch_questions import (
    ENGINE,
    KEY,
    VIDEO,
    answer,
    answered,
    ask,
    journal_lines,
    lines_of,
    question,
    read,
    thought,
    values,
    written,
)
from tests.support.journal_lines import in_a_child
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion
from transforms.journal import batch_files
from transforms.journal.batch_files import BatchInUse, having_alone, reply_files, request_files
from transforms.journal.budget import Budget, Cost, Deferred
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.teacher.recorded_teacher import RecordedTeacher


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "batch")


def test_a_question_is_written_instead_of_asked_and_its_reply_is_found_by_the_next_run(folder, tmp_path):
    assert ask(folder, tmp_path, question(1), question(2)) == ["batch", "batch"]
    assert len(lines_of(folder)) == 2

    found = read(folder, tmp_path, written(tmp_path / "out.jsonl", answered(folder)))

    assert (found.replies, found.failures, found.troubles) == (2, 0, [])
    assert ask(folder, tmp_path, question(1), question(2)) == [thought("1"), thought("2")]
    assert request_files(folder) == []


@pytest.mark.parametrize(
    "request_",
    [
        question(),
        question(task="write_queries", count=2, confidence="label_only"),
        question(confidence="logprobs_prefill", said="<think>so</think><answer>"),
        question(confidence="sampling"),
        question(confidence="verbalized", said="yes", follow_up="how sure?"),
        question(confidence="prior", prior="prefill", said="<answer>"),
    ],
    ids=["judge", "write", "prefill", "sampling", "verbalized", "prior"],
)
def test_a_line_holds_what_the_live_client_sends(folder, tmp_path, request_):
    with ScriptedServer([completion("yes")]) as server:
        engine = replace(ENGINE, base_url=server.base_url, extra_body={"top_k": 1})
        ask(folder, tmp_path, request_, engine=engine)
        engine.load().reply(request_)

    (line,) = lines_of(folder)
    assert (line["method"], line["url"]) == ("POST", server.asked[0].path)
    assert line["body"] == server.asked[0].body


def test_a_live_run_and_a_batch_record_the_same_under_the_same_keys(folder, tmp_path):
    with ScriptedServer(answer) as server:
        live = ask("", tmp_path / "live", question(1), question(2), engine=replace(ENGINE, base_url=server.base_url))
    ask(folder, tmp_path / "batched", question(1), question(2))
    read(folder, tmp_path / "batched", written(tmp_path / "out.jsonl", answered(folder)))

    assert ask(folder, tmp_path / "batched", question(1), question(2)) == live
    assert values(tmp_path / "batched") == values(tmp_path / "live")


def test_what_another_endpoint_answers_is_asked_live(folder, tmp_path):
    reply = Reply({"answers": {"answers": {"type": "noul", "noul": 0.25}}})
    with ScriptedServer([reply]) as server:
        engine = replace(ENGINE, base_url=server.base_url, prior="systemone")
        ask(folder, tmp_path, question(confidence="prior", prior="systemone"), engine=engine)

    assert [asked.path for asked in server.asked] == ["/v1/systemone"]
    assert lines_of(folder) == []


def test_a_half_finished_batch_is_finished_live_and_its_files_go(folder, tmp_path):
    ask(folder, tmp_path, question(1), question(2))
    read(folder, tmp_path, written(tmp_path / "out.jsonl", answered(folder)[:1]))
    with ScriptedServer(answer) as server:
        live = ask("", tmp_path, question(1), question(2), engine=replace(ENGINE, base_url=server.base_url))

    assert live == [thought("1"), thought("2")]
    assert len(server.asked) == 1
    assert ask(folder, tmp_path, question(1), question(2)) == live
    assert request_files(folder) == []


def test_a_question_waits_in_one_file_only_however_often_runs_come_to_it(folder, tmp_path):
    for questions in ([question(1)], [question(1), question(2)], [question(2), question(1), question(2)]):
        assert set(ask(folder, tmp_path, *questions)) == {"batch"}

    assert [line["body"]["messages"][1]["content"] for line in lines_of(folder)] == ["user 1", "user 2"]


def test_files_are_split_at_the_limits_of_lines_and_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_files, "MAX_LINES", 3)
    ask(folder, tmp_path, *map(question, range(7)))
    assert [len(path.read_text().splitlines()) for path in request_files(folder)] == [3, 3, 1]

    size = len(request_files(folder)[2].read_bytes())
    monkeypatch.setattr(batch_files, "MAX_LINES", 50_000)
    monkeypatch.setattr(batch_files, "MAX_BYTES", 2 * size)
    ask(f"{folder}2", tmp_path, *map(question, range(5)))
    assert [len(path.read_text().splitlines()) for path in request_files(f"{folder}2")] == [2, 2, 1]


def test_each_step_has_files_of_its_own_for_a_batch_asks_one_model(folder, tmp_path):
    ask(folder, tmp_path, question(1), question(task="write_queries", count=2))

    assert [path.name.split("-")[1] for path in request_files(folder)] == ["judge", "write"]


def test_a_budget_bounds_the_lines_and_lines_that_wait_cost_nothing_again(folder, tmp_path):
    questions = [question(n) for n in range(5)]

    assert ask(folder, tmp_path, *questions, budget=Budget(max_calls=2)) == ["batch"] * 2 + ["max calls"] * 3
    assert ask(folder, tmp_path, *questions, budget=Budget(max_calls=2)) == ["batch"] * 4 + ["max calls"]
    assert len(lines_of(folder)) == 4


def test_a_line_counts_against_a_budget_as_the_recipe_estimates_it(folder, tmp_path):
    costs = {"judge": Cost(input_price=1.0, output_price=2.0, input_tokens=1000, output_tokens=500)}

    for budget in (Budget(max_tokens=4000, costs=costs), Budget(max_cost=0.005, costs=costs)):
        asked = ask(f"{folder}{budget.max_tokens}", tmp_path, *map(question, range(4)), budget=budget)
        assert asked.count("batch") == 2


def test_no_key_and_no_address_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(folder, tmp_path, question(), engine=replace(ENGINE, base_url="https://server.example/v1"))

    held = b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())
    assert b"user 0" in held
    assert b"server.example" not in held
    assert KEY.encode() not in held


def test_every_sample_of_a_judgement_is_asked_in_the_same_round(folder, tmp_path):
    engine = replace(ENGINE, confidence=("sampling",), samples=4)
    pair = Pair(Query("q1", "tram", "a red tram", "human"), VIDEO, None, is_positive=True)

    def judge(journal):
        return judge_pair(RecordedTeacher(engine, journal), engine.stamp(), pair, JudgeOptions())

    def yes(asked: Asked) -> Reply:
        return completion("<think>It is.</think><answer>yes</answer>")

    for lines in (1, 4):
        with closing(Journal(str(tmp_path), batch=folder)) as journal, pytest.raises(Deferred):
            judge(journal)
        assert len(lines_of(folder)) == lines
        read(folder, tmp_path, written(tmp_path / "out.jsonl", answered(folder, yes)))
    with closing(Journal(str(tmp_path), batch=folder)) as journal:
        judgement = judge(journal)

    assert (judgement.label, judgement.confidence_source) == ("yes", "sampling")
    assert judgement.margin.delta > 0


def test_a_run_that_is_killed_leaves_whole_lines_and_asks_nothing_twice(folder, tmp_path):
    script = """
import os, sys
from tests.support.batch_questions import ENGINE, RecordedTeacher, Journal, question, asked_of
journal = Journal(sys.argv[2], batch=sys.argv[1])
for n in range(5):
    asked_of(RecordedTeacher(ENGINE, journal), question(n))
print("asked", flush=True)
os.kill(os.getpid(), 9)
"""
    process = in_a_child(script, folder, str(tmp_path))
    assert process.communicate()[0] == "asked\n"
    assert request_files(folder) == []
    (unfinished,) = Path(folder).glob("unfinished/judge/*.jsonl")
    unfinished.write_bytes(unfinished.read_bytes()[:-30])  # as if it had been in the middle of the last line

    assert set(ask(folder, tmp_path, *map(question, range(6)))) == {"batch"}

    assert sorted(line["body"]["seed"] for line in lines_of(folder)) == list(range(6))
    assert list(Path(folder).glob("unfinished/judge/*")) == []


def test_a_line_whose_key_was_not_taken_down_is_asked_again(folder, tmp_path):
    ask(folder, tmp_path, question(1), question(2))
    (path,) = request_files(folder)
    path.rename(Path(folder) / "unfinished" / "judge" / "20310101T000000.000000-1-00000000.jsonl")
    (keys,) = Path(folder).glob("journal/asked/*.jsonl")
    keys.write_bytes(keys.read_bytes()[:-20])

    ask(folder, tmp_path, question(1), question(2))
    found = read(folder, tmp_path, written(tmp_path / "o.jsonl", answered(folder)))

    assert (found.replies, found.troubles) == (2, [])


def test_a_reading_that_is_cut_short_is_simply_repeated(folder, tmp_path, monkeypatch):
    questions = [question(n) for n in range(4)]
    ask(folder, tmp_path, *questions)
    (path,) = request_files(folder)
    written(path.with_name(path.name.replace("requests", "replies")), answered(folder))
    cut = iter(range(2))
    with closing(Journal(str(tmp_path), "all")) as journal, pytest.raises(StopIteration):
        read_batch(folder, reply_files(folder), journal, "", lambda _: next(cut))

    found = read(folder, tmp_path)

    assert (found.replies, found.before) == (1, 3)
    assert len(journal_lines(tmp_path)) == 4
    assert (request_files(folder), reply_files(folder)) == ([], [])


def test_only_one_process_at_a_time_changes_the_folder(folder, tmp_path):
    with having_alone(folder), pytest.raises(BatchInUse, match=f"in use by process {os.getpid()} on"):
        ask(folder, tmp_path, question())


def test_a_file_of_questions_that_somebody_else_put_there_is_left_alone(folder, tmp_path):
    theirs = Path(folder, "requests-mine.jsonl")
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text('{"custom_id": "row-1", "method": "POST"}\n')

    ask(folder, tmp_path / "cache", question())

    assert theirs.read_text() == '{"custom_id": "row-1", "method": "POST"}\n'
    assert len(request_files(folder)) == 2


def test_questions_are_given_up_by_removing_their_file(folder, tmp_path):
    ask(folder, tmp_path, question())
    request_files(folder)[0].unlink()

    assert ask(folder, tmp_path, question()) == ["batch"]
    assert len(lines_of(folder)) == 1
