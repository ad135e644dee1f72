from pathlib import Path

import pytest

from schemas.query import Candidate
from transforms.engines.registry import find_engine
from transforms.engines.trec_run import TrecRun
from transforms.protocols.engine import EngineError
from transforms.storage.trec import TrecError

RUN = "q1 Q0 a 1 3.0 t\nq1 Q0 gone 2 2.0 t\nq1 Q0 b 3 1.0 t\n"


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "run.trec").write_text(RUN)
    return str(tmp_path / "run.trec")


def test_candidates_come_from_the_run_by_query_id_whatever_the_text(path: str):
    stage = TrecRun(path).load().index([("b", ""), ("a", ""), ("gone", ""), ("c", "")])
    assert [c.video_id for c in stage.search("q1", "any text", 10)] == ["a", "gone", "b"]
    assert [c.video_id for c in stage.search("q1", "", 2)] == ["a", "gone"]


def test_videos_that_are_not_at_hand_are_left_out_before_the_depth_is_counted(path: str):
    stage = TrecRun(path).load().index([("a", ""), ("b", "")])
    assert stage.search("q1", "", 2) == [Candidate("a", 1, 3.0), Candidate("b", 2, 1.0)]


def test_a_query_that_is_not_in_the_run_gets_nothing(path: str):
    assert TrecRun(path).load().index([("a", "")]).search("q9", "flood", 5) == []


def test_a_missing_file_is_one_clear_line_before_any_work(tmp_path: Path):
    with pytest.raises(EngineError, match=r"first_stage engine 'trec': no run file at '.*nowhere'"):
        find_engine("first_stage", {"engine": "trec", "path": str(tmp_path / "nowhere")})


def test_a_broken_file_is_named_with_its_line(tmp_path: Path):
    (tmp_path / "run").write_text("q1 a 1\n")
    with pytest.raises(TrecError, match="line 1"):
        TrecRun(str(tmp_path / "run")).load()


@pytest.mark.parametrize("content", ["q1 a 1\n", None])
def test_a_check_refuses_what_is_no_run(tmp_path: Path, content: str | None):
    path = tmp_path / "run"
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(EngineError, match=r"first_stage engine 'trec': .*'path' must be a TREC run") as raised:
        TrecRun(str(path)).check()
    assert "\n" not in str(raised.value)


def test_a_check_accepts_a_run(path: str):
    TrecRun(path).check()


def test_the_stamp_follows_the_content_and_not_the_place(path: str, tmp_path: Path):
    copy, other = tmp_path / "copy", tmp_path / "other"
    copy.write_text(RUN)
    other.write_text(RUN.replace("3.0", "4.0"))
    assert TrecRun(path).stamp() == TrecRun(str(copy)).stamp()
    assert TrecRun(path).stamp() != TrecRun(str(other)).stamp()
