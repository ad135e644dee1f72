"""What prompts share stands first, and they are asked in the order in which a server can make use of it."""

import threading
from contextlib import closing
from itertools import groupby, takewhile

import apache_beam as beam
import pytest

from pipeline.config import JudgeConfig
from pipeline.engines import Engines
from pipeline.judge import Judge
from pipeline.stage import LedgerBuilder
from prompts.evidence import render_evidence
from prompts.judge import judge_prompt
from prompts.template import load_template
from prompts.write_queries import queries_prompt
from runners import local
from schemas.video import Evidence
from tests.support.ranking_records import video
from tests.support.scripted_teacher import ScriptedEngine
from transforms.journal.journal import Journal
from transforms.protocols.teacher import TeacherReply

VIDEOS = [f"v{number}" for number in range(7)]
QUERIES = [f"q{number}" for number in range(9)]
ASKED = []


def note(request):
    ASKED.append((threading.get_ident(), *reversed(request.subject.split())))
    return TeacherReply("<think>It is another.</think><answer>no</answer>")


def pairs_of(query_id):
    """Every video, in an order that differs from query to query; one of them is the query's own."""
    turn = QUERIES.index(query_id)
    placed = VIDEOS[turn % 7 :] + VIDEOS[: turn % 7]
    for rank, video_id in enumerate(placed, start=1):
        yield video_id, query_id, "which flood closed the bridge", rank == 1, rank, 9.0 - rank, ()


@pytest.mark.parametrize("workers", [1, 3])
def test_all_questions_about_a_video_come_one_after_the_other(workers, tmp_path):
    ASKED.clear()
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    engines = Engines(None, None, None, None, None, (), ScriptedEngine(note))
    with closing(Journal(str(tmp_path))) as journal:
        inputs = (
            pipeline | "Pairs" >> beam.Create([pair for query_id in QUERIES for pair in pairs_of(query_id)]),
            pipeline | "Videos" >> beam.Create([video(name, f"What {name} shows.") for name in VIDEOS]),
        )
        _ = inputs | Judge(JudgeConfig({}), engines, journal, load_template("judge"), 0, LedgerBuilder())
        local.run(pipeline, threading.Event.wait)

    assert len(ASKED) == len(VIDEOS) * len(QUERIES)
    runs = []
    for worker in {worker for worker, _, _ in ASKED}:
        own = [(video_id, query_id) for asked_by, video_id, query_id in ASKED if asked_by == worker]
        for video_id, pairs in groupby(own, key=lambda pair: pair[0]):
            runs.append(video_id)
            assert [query_id for _, query_id in pairs] == sorted(QUERIES)
    assert sorted(runs) == VIDEOS


def whole(prompt):
    return f"{prompt.system}\n{prompt.user}"


def shared(*prompts):
    """The text that all of them start with."""
    same = takewhile(lambda at: len(set(at)) == 1, zip(*map(whole, prompts), strict=False))
    return "".join(at[0] for at in same)


def test_judging_prompts_share_the_instructions_and_those_of_a_video_its_evidence_too():
    tram, flood = Evidence(caption="A tram leaves."), Evidence(caption="A flood.")
    of_tram = [judge_prompt(tram, ("caption",), "tram", text) for text in ("red tram", "blue bus")]
    of_flood = judge_prompt(flood, ("caption",), "flood", "red tram")

    assert render_evidence(tram, ("caption",), "tram") in shared(*of_tram)
    assert shared(of_tram[0], of_flood).startswith(f"{of_flood.system}\nBEGIN EVIDENCE ")


def test_writing_prompts_share_the_instructions():
    tram, flood = (queries_prompt(Evidence(caption=text), ("caption",), text, 2) for text in ("A tram.", "A flood."))

    assert shared(tram, flood).startswith(f"{flood.system}\nBEGIN EVIDENCE ")
    assert tram.user.index("A tram.") < tram.user.index("2 queries")
