"""``hardquery matrix`` on tiny outputs, with rerankers that know the answer or do not in the place of trained ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runners.cli.errors import UsageError
from runners.cli.main import main
from runners.cli.models.matrix import Asked, as_table, asked_by, named, require_apart, split_of
from schemas.query import Candidate
from tests.support.tiny_output import write_tiny


class AllClips(set[str]):
    """Ids of clips, which stand in their order."""

    def in_order(self, wanted: set[str]) -> list[str]:
        return sorted(wanted)


@dataclass
class Knows:
    """A reranker that puts one video before all others."""

    best: str
    identity: str = "knows"

    @property
    def clips(self) -> AllClips:
        return AllClips(f"v{n}" for n in range(9))

    def scores(self, video_id: str, queries: list[str]) -> list[float]:
        return [float(video_id == self.best)] * len(queries)


def asked(name: str, output: str, video_id: str = "v1") -> Asked:
    run = {"q1": [Candidate("v0", 1, 2.0), Candidate(video_id, 2, 1.0)]}
    return Asked(name, output, {"q1": "a red ball"}, frozenset({video_id}), run, {"q1": {video_id: 1}})


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A matrix of two outputs whose held-out query the reranker of the first knows the answer to."""
    trained: list[str] = []
    monkeypatch.setattr("trainer.run.train", lambda stage, config, data, output: trained.append(f"{stage} {data}"))
    monkeypatch.setattr(
        "trainer.rerank.load_reranker",
        lambda folder, data, device: Knows("v1" if folder.name == "a" else "v0"),
    )
    monkeypatch.setattr(
        "runners.cli.models.matrix.asked_by", lambda outputs: [asked(*item) for item in outputs.items()]
    )
    monkeypatch.setattr("runners.cli.models.matrix.split_of", lambda output, split: frozenset({"v7"}))
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    return tmp_path / "runs"


def test_each_row_is_trained_on_its_output_and_asked_the_queries_of_all(two, capsys):
    command = ["matrix", "paper", "--data", "a=out/a", "--data", "b=out/b", "--output", str(two)]

    assert main(command) == 0

    assert capsys.readouterr().out.splitlines() == [
        "nDCG@10",
        "",
        "| trained on | asked by a (1) | asked by b (1) |",
        "|---|---:|---:|",
        "| first stage | 0.631 | 0.631 |",
        "| a | 1.000 | 1.000 |",
        "| b | 0.631 | 0.631 |",
    ]
    assert json.loads((two / "matrix.json").read_text())["a"] == {"a": 1.0, "b": 1.0}
    assert main(command) == 0


def test_what_is_asked_are_the_held_out_queries_of_an_output_with_what_its_first_stage_found(tmp_path):
    write_tiny(tmp_path / "out")

    column, *people = asked_by({"a": str(tmp_path / "out")})

    held_out = split_of(str(tmp_path / "out"), "validation")
    assert column.queries.keys() == column.qrels.keys() == column.run.keys()
    assert column.queries
    assert column.videos <= held_out
    assert [one.name for one in people] in ([], ["people"])


def test_a_video_that_is_trained_on_in_one_output_and_held_out_in_another_is_refused():
    with pytest.raises(UsageError, match=r"a is trained on 1 videos that out/b holds out, such as 'v1'"):
        require_apart({"a": frozenset({"v1"})}, [asked("b", "out/b")])
    require_apart({"a": frozenset({"v2"})}, [asked("b", "out/b")])


@pytest.mark.parametrize("data", [[], ["a=x"], ["a=x", "a=y"], ["a=x", "people=y"], ["x", "b=y"]])
def test_outputs_without_names_of_their_own_are_refused(data):
    with pytest.raises(UsageError, match="--data"):
        named(data)


def test_a_table_counts_the_queries_of_each_column():
    column = replace(asked("a", "out"), queries={f"q{n}": "x" for n in range(1200)})

    assert "| trained on | asked by a (1,200) |" in as_table({"a": {"a": 0.5}}, [column])
