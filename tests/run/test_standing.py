import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.outputs.manifest import Manifest, read_manifest, write_manifest
from pipeline.outputs.standing import standing
from pipeline.run import given_of
from runners import run as runners_run
from runners.job import prepare
from runners.request import Request
from tests.support.tiny_output import write_tiny
from transforms.journal import deciding
from transforms.ledger import Line, ledger_json


def make(folder: Path) -> None:
    keep(folder, write_tiny(str(folder)), ledger_json([Line("extract", "decode", 3, 3)], {}))


def keep(folder: Path, manifest: Manifest, ledger: bytes) -> None:
    (folder / "ledger.json").write_bytes(ledger)
    sizes = {file.path: (folder / file.path).stat().st_size for file in manifest.files}
    files = tuple(replace(file, size_bytes=sizes[file.path]) for file in manifest.files)
    write_manifest(str(folder), replace(manifest, given="the same", files=files))


@pytest.fixture
def output(made_once, tmp_path):
    return Path(shutil.copytree(made_once("standing", make), tmp_path / "out"))


def test_an_output_stands_that_was_given_the_same(output):
    found = standing(str(output), "the same")

    assert found is not None
    assert found[0].given == "the same"
    assert found[1] == [Line("extract", "decode", 3, 3)]


@pytest.mark.parametrize("given", ["", "another"])
def test_an_output_does_not_stand_that_was_given_something_else(output, given):
    assert standing(str(output), given) is None


@pytest.mark.parametrize(
    "ledger",
    [
        ledger_json([Line("extract", "decode", 3, 2, failed={"ServerSilent": 1})], {}),
        ledger_json([Line("judge", "judge", 3, 2, deferred={"max calls": 1})], {}),
        ledger_json([Line("extract", "decode", 3, 3)], {"asr": {"time limit": 1}}),
    ],
)
def test_an_output_does_not_stand_that_has_something_left_to_be_tried_again(output, ledger):
    keep(output, read_manifest(str(output)), ledger)

    assert standing(str(output), "the same") is None


def test_an_output_stands_whose_failures_are_those_of_files_that_cannot_be_used(output):
    keep(
        output,
        read_manifest(str(output)),
        ledger_json([Line("extract", "decode", 3, 2, failed={"UnreadableMedia": 1})], {}),
    )

    assert standing(str(output), "the same") is not None
    assert standing(str(output), "the same", "none") is not None
    assert standing(str(output), "the same", "all") is None


def test_an_output_does_not_stand_that_lacks_a_file(output):
    (output / "run.trec").unlink()

    assert standing(str(output), "the same") is None
    assert standing(str(output / "nowhere"), "the same") is None


@pytest.fixture
def request_(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (videos / name).write_bytes(name.encode())
    return Request(recipe="demo", input=str(videos), output=str(tmp_path / "new"), cache=str(tmp_path / "cache"))


def given(request: Request) -> str:
    return given_of(prepare(request, look_only=True).job)


def test_what_decides_an_output_tells_files_and_recipes_apart(request_, tmp_path):
    first = given(request_)

    assert given(replace(request_, output=str(tmp_path / "elsewhere"), workers=3)) == first
    assert given(replace(request_, settings=("curate.alpha1=-7",))) != first
    assert given(replace(request_, limit=1)) != first
    (tmp_path / "videos" / "b.mp4").write_bytes(b"other")
    assert given(request_) != first


def test_an_output_does_not_stand_whose_file_is_of_another_size(output):
    with (output / "run.trec").open("ab") as file:
        file.write(b"\n")

    assert standing(str(output), "the same") is None


def test_edited_code_is_another_code(tmp_path, monkeypatch):
    for folder in deciding.MAKERS:
        (tmp_path / folder).mkdir()
    (tmp_path / "prompts" / "judge.md").write_text("is it?")
    monkeypatch.setattr(deciding, "__file__", str(tmp_path / "transforms" / "journal" / "deciding.py"))

    def digest() -> str:
        deciding.code_version.cache_clear()
        return deciding.code_version()

    first = digest()
    (tmp_path / "prompts" / "judge.pyc").write_bytes(b"compiled")
    assert digest() == first
    (tmp_path / "prompts" / "judge.md").write_text("was it?")
    assert digest() != first
    deciding.code_version.cache_clear()


def test_a_run_leaves_a_standing_output_alone(output, request_, monkeypatch):
    prepared = prepare(replace(request_, output=str(output)), look_only=True)
    monkeypatch.setattr(runners_run, "given_of", lambda job: "the same")
    said = []

    finished = runners_run.run(prepared, say=said.append)

    assert (finished.manifest.given, finished.deferred) == ("the same", 0)
    since = f"nothing has changed since {finished.manifest.created}"
    assert said == [f"{since}: {output} stays as it is (--force makes it again)"]
    assert runners_run.left_alone(replace(prepared, force=True)) is None
