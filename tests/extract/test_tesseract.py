"""Tesseract's program, played by a script that answers as release 5.3 does; the real one is in tests/real."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import check_engines, find_engines
from transforms.engines.ocr import tesseract
from transforms.engines.ocr.tesseract import Tesseract, lines_of
from transforms.engines.registry import find_engine, known_engines
from transforms.protocols.engine import EngineError

HEADER = "level page_num block_num par_num line_num word_num left top width height conf text".split()


def rows(*words: tuple[int, int, int, int, int, int, float, str], page: int = 1) -> str:
    """Rows of the TSV, of words as (line, word, left, top, width, height, conf, text) of one block."""
    lines = [(1, page, 0, 0, 0, 0, 0, 0, 640, 360, -1, ""), (4, page, 1, 1, 1, 0, 10, 20, 200, 30, -1, "")]
    lines += [(5, page, 1, 1, *word) for word in words]
    return "".join("\t".join(map(str, line)) + "\n" for line in lines)


TABLE = "\t".join(HEADER) + "\n"
TABLE += rows(
    (1, 1, 64, 36, 128, 36, 96.0, "two"),
    (1, 2, 256, 30, 64, 42, 90.0, '"hours"'),
    (2, 1, 64, 90, 32, 36, 40.0, "blurred"),
)
TABLE += rows(
    (1, 1, 0, 0, 32, 32, 90.0, "因"), (1, 2, 32, 0, 64, 32, 80.0, "闪电"), (1, 3, 96, 0, 64, 32, 70.0, "3"), page=2
)
TABLE += rows((1, 1, 0, 0, 8, 8, 99.0, "x"), page=3)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that notes what it is asked and answers with TABLE; where it notes it."""
    data = tmp_path / "tessdata"
    data.mkdir()
    for name in ("eng", "kor"):
        (data / f"{name}.traineddata").write_bytes(name.encode())
    (tmp_path / "table.tsv").write_text(TABLE, encoding="utf-8")
    script = tmp_path / "bin/tesseract"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        f'case "$1" in --version) echo "tesseract 5.3.0"; exit;;\n'
        f'--list-langs) echo "List of available languages in \\"{data}/\\" (2):"; echo eng; echo kor; exit;; esac\n'
        f'echo "$@" > {tmp_path}/asked; echo $OMP_THREAD_LIMIT >> {tmp_path}/asked; cat "$1" >> {tmp_path}/asked\n'
        f"cat {tmp_path}/table.tsv\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    tesseract.program_version.cache_clear()
    tesseract.trained_data.cache_clear()


def images(count: int) -> list[np.ndarray]:
    return [np.zeros((360, 640, 3), np.uint8)] * count


def test_words_become_lines_with_their_place_and_mean_confidence_and_unsure_or_single_ones_are_dropped(program: Path):
    first, second, third = Tesseract().load().read(images(3))

    assert [(line.text, line.confidence) for line in first] == [('two "hours"', pytest.approx(0.93))]
    assert (first[0].box.left, first[0].box.right) == (0.1, 0.5)
    assert (first[0].box.top, first[0].box.bottom) == pytest.approx((30 / 360, 72 / 360))
    assert [line.text for line in second] == ["因闪电 3"]
    assert third == []


def test_all_images_of_a_video_are_read_by_one_call_on_one_thread(program: Path):
    Tesseract(languages=("eng", "kor"), page_mode=6).load().read(images(2))

    asked, threads, *listed = (program / "asked").read_text().splitlines()
    assert asked.split()[1:] == "stdout -l eng+kor --psm 6 --dpi 150 tsv".split()
    assert (threads, len(listed), len(set(listed))) == ("1", 2, 2)
    assert not Path(listed[0]).exists()  # the frames lay in a folder of the call's own
    (program / "asked").unlink()
    assert Tesseract().load().read([]) == []
    assert not (program / "asked").exists()


def test_another_program_or_other_trained_data_is_another_stamp(program: Path):
    before = Tesseract().stamp()
    assert before.model.startswith("5.3.0, eng ")
    assert Tesseract(languages=("eng", "kor")).stamp() != before
    assert Tesseract(page_mode=6).stamp().fingerprint != before.fingerprint

    (program / "tessdata/eng.traineddata").write_bytes(b"better")
    forget()
    assert Tesseract().stamp().fingerprint != before.fingerprint


def test_languages_that_it_was_not_trained_to_are_named_before_any_work(program: Path):
    with pytest.raises(EngineError, match=r"no trained data for ara, rus \(it has eng, kor\); apt-get"):
        Tesseract(languages=("ara", "kor", "rus")).check()


def test_the_codes_of_others_are_told_its_own_names(program: Path):
    with pytest.raises(
        EngineError, match=r"data for en \(did you mean eng\?\), ko \(did you mean kor\?\), engl \(did you m"
    ):
        Tesseract(languages=("en", "ko", "engl")).check()
    with pytest.raises(
        EngineError, match=r"for zh \(did you mean chi_sim\?\), ru \(did you mean rus\?\), xyz \(it has"
    ):
        Tesseract(languages=("zh", "ru", "xyz")).check()


def test_plan_and_run_name_the_recipe_s_key_where_trained_data_are_missing(program: Path):
    engines = find_engines(load_recipe("demo", ["extract.ocr={engine: tesseract, languages: [en]}"]))

    for look in (engines.stamps, lambda: check_engines(engines)):
        with pytest.raises(
            RecipeError, match=r"^recipe key extract\.ocr: ocr engine 'tesseract': no trained data for en"
        ):
            look()


def test_release_4_which_names_no_folder_finds_its_data_by_the_variable_or_says_so(program: Path, monkeypatch):
    listed = (
        (program / "bin/tesseract").read_text().replace(f' in \\"{program}/tessdata/\\"', "").replace("5.3.0", "4.1.1")
    )
    (program / "bin/tesseract").write_text(listed)
    assert "languages (2)" in listed
    monkeypatch.delenv("TESSDATA_PREFIX", raising=False)

    with pytest.raises(
        EngineError, match=r"this is Tesseract 4\.1\.1, .* Tesseract 5 is needed, or .* TESSDATA_PREFIX"
    ):
        Tesseract().check()
    stamps = set()
    for folder in (program, program / "tessdata"):
        forget()
        monkeypatch.setenv("TESSDATA_PREFIX", str(folder))
        stamps.add(Tesseract().stamp().model)
    (stamp,) = stamps
    assert stamp.startswith("4.1.1, eng ")


def test_a_machine_without_the_program_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    forget()

    with pytest.raises(EngineError, match=r"^ocr engine 'tesseract' needs the program 'tesseract': apt-get install"):
        find_engine("ocr", {"engine": "tesseract"})
    with pytest.raises(EngineError, match="needs the program 'tesseract'"):
        Tesseract().check()
    [listed] = [each for each in known_engines() if each.name == "tesseract"]
    assert "apt-get install tesseract-ocr" in listed.trouble


def test_a_program_that_fails_on_a_video_fails_that_video_alone(program: Path):
    (program / "bin/tesseract").write_text("#!/bin/sh\necho 'Warning: odd' >&2; echo 'no such page' >&2; exit 1\n")

    with pytest.raises(RuntimeError, match="tesseract ended with 1: Warning: odd no such page") as failed:
        tesseract.TesseractReader(Tesseract()).read(images(1))
    assert not isinstance(failed.value, EngineError)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"languages": []}, "languages must be names of trained data"),
        ({"languages": ["eng --psm 0"]}, "languages must be names of trained data"),
        ({"page_mode": 0}, "page_mode must be 1 or 3 to 13"),
        ({"page_mode": 14}, "page_mode must be 1 or 3 to 13"),
        ({"min_confidence": 2}, "min_confidence must lie in"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, complaint, program: Path):
    with pytest.raises(EngineError, match=complaint):
        find_engine("ocr", {"engine": "tesseract", **options})


def test_a_table_without_words_has_no_lines():
    assert lines_of("\t".join(HEADER) + "\n" + rows(), 1, 640, 360) == []
