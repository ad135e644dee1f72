"""Steps of the pipeline with a language model in this process."""

import json
import pickle
from functools import partial

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from schemas.query import Candidate, Query
from schemas.video import MediaFacts, Video
from tests.support.local_teacher import (
    engine_of,
    evidence_of,
)
from tests.support.talking_llm import make_talking_llm
from transforms.judge.judge_pairs import JudgePairs, Pair
from transforms.protocols.engine import Waits, _models
from transforms.synthesize.write_queries import WriteQueries

WRITTEN = json.dumps(
    {
        "queries": [
            {
                "evidence": ["a tram"],
                "rationale": "Two facts are joined.",
                "query": "which line opened with free rides until the weekend",
                "query_type": "base",
                "modalities": ["caption"],
            }
        ]
    }
)


def video_of(number):
    return Video(f"v{number}", f"/v{number}.mp4", MediaFacts("0" * 64, 1), evidence_of(number))


def pairs(n):
    query = Query("q1", "v0", "a tram that leaves its depot", "human")
    return [Pair(query, video_of(number), Candidate(f"v{number}", number + 1, 1.0), number == 0) for number in range(n)]


class InBeam:
    """What a step puts out, by tag, in no particular order; Beam checks in a copy of what it is given."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, elements, step, *tags):
        with beam.Pipeline() as p:
            outputs = p | beam.Create(elements) | step
            for tag in tags:
                assert_that(outputs[tag], partial(self._keep, tag), label=tag)
        return [pickle.loads((self.folder / tag).read_bytes()) for tag in tags]

    def _keep(self, tag, found):
        (self.folder / tag).write_bytes(pickle.dumps(found))


@pytest.fixture
def in_beam(tmp_path):
    return InBeam(tmp_path)


def judged(in_beam, engine, journal, n):
    judgements, losses = in_beam(pairs(n), JudgePairs(engine, journal), "judgements", "losses")
    assert losses == []
    return sorted(judgements, key=lambda judgement: judgement.video_id)


def test_pairs_are_judged_in_a_window_and_a_second_run_loads_no_model(in_beam, qwen_folder, journal, monkeypatch):
    engine = engine_of(qwen_folder)
    judgements = judged(in_beam, engine, journal, 10)

    assert isinstance(engine, Waits)
    assert len(judgements) == 10
    assert {judgement.confidence_source for judgement in judgements} == {"logprobs"}
    assert all(judgement.rationale == "It fits." for judgement in judgements)
    assert all((judgement.margin.delta > 0) == (judgement.label == "yes") for judgement in judgements)

    journal.close()
    monkeypatch.delitem(_models, (type(engine), engine))
    monkeypatch.setattr(type(engine), "load", None)
    assert judged(in_beam, engine, journal, 10) == judgements


def test_every_rung_of_the_ladder_works_in_process(in_beam, talking, qwen_folder, journal):
    sampling = engine_of(qwen_folder, confidence=["sampling"], samples=4, prior="prefill")
    [judgement] = judged(in_beam, sampling, journal, 1)
    assert judgement.confidence_source == "sampling"
    assert judgement.delta_prior is not None

    verbalized = engine_of(qwen_folder, confidence=["verbalized"])  # this model says no number
    [judgement] = judged(in_beam, verbalized, journal, 1)
    assert judgement.confidence_source == "label_only"


def test_queries_are_written(in_beam, tmp_path, journal):
    engine = engine_of(make_talking_llm(tmp_path / "llm", (WRITTEN,)))
    videos = [video_of(number) for number in range(3)]

    [found] = in_beam(videos, WriteQueries(engine, journal, ("caption",), 1), "queries")

    assert sorted(query.video_id for query in found) == ["v0", "v1", "v2"]
    assert {query.text for query in found} == {"which line opened with free rides until the weekend"}
