import json
from pathlib import Path

import pytest

from runners.cli.errors import PROBLEMS, RUN_ERROR, USAGE_ERROR
from runners.cli.main import main
from schemas.usage import Usage
from schemas.video import EngineStamp
from tests.support.tiny_cache import decode, decode_key, judge, judge_key, publish, recorded, write_segment
from transforms.journal.journal import Journal
from transforms.journal.record import Failed, Key
from transforms.protocols.teacher import TeacherReply


@pytest.fixture
def cache(tmp_path) -> Path:
    """A sound cache of three judgements and two videos."""
    root = tmp_path / "cache"
    judge(str(root), 1, 2)
    judge(str(root), 3)
    decode(str(root), tmp_path, 1, 2)
    return root


@pytest.fixture
def said(capsys):
    """Carry out a command on a cache; its exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        code = main(["cache", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def segment_of(cache: Path, step: str) -> Path:
    return sorted((cache / "journal" / step).iterdir())[0]


def test_a_sound_cache_is_said_to_be_sound(cache, said):
    code, text = said("verify", "--cache", cache)
    assert code == 0
    assert text == f"{cache}: 5 records and 4 files, all sound\n"


def test_a_changed_byte_of_the_journal_is_a_problem_until_it_is_pruned(cache, said):
    path = segment_of(cache, "judge")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    code, text = said("verify", "--cache", cache)
    assert code == PROBLEMS
    assert f"{path.relative_to(cache)}: " in text
    assert (
        "damaged bytes at 0: the results that they held are computed again at the next run; `hardquery cache prune`"
        in text
    )
    assert said("prune", "--cache", cache)[0] == 0
    assert said("verify", "--cache", cache) == (0, f"{cache}: 4 records and 4 files, all sound\n")


@pytest.mark.parametrize("content", [None, b"shorter"])
def test_a_file_that_is_gone_or_cut_is_a_problem_until_it_is_pruned(cache, said, content):
    path = cache / f"frames/01/{1:016}.parquet"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    code, text = said("verify", "--cache", cache)
    assert code == PROBLEMS
    assert ("missing" if content is None else "7 bytes, recorded with 11") in text
    assert "videos/1.mp4 is decoded again at the next run; `hardquery cache prune` drops the record" in text
    assert said("prune", "--cache", cache)[0] == 0
    assert said("verify", "--cache", cache) == (0, f"{cache}: 4 records and 2 files, all sound\n")


def test_a_file_that_changed_at_equal_size_is_a_problem_until_it_is_deleted(cache, said, tmp_path):
    path = cache / f"audio/01/{1:016}.flac"
    path.write_bytes(b"AUDIO of 1")
    code, text = said("verify", "--cache", cache)
    assert code == PROBLEMS
    assert "runs cannot tell and use it as it is; delete the file, and videos/1.mp4 is decoded again" in text
    path.unlink()
    decode(str(cache), tmp_path, 1)
    assert said("verify", "--cache", cache)[0] == 0


def test_what_is_in_nobodys_way_is_noted(cache, said, tmp_path):
    with segment_of(cache, "judge").open("ab") as file:
        file.write(b"0123")
    publish(str(cache), tmp_path, 3)
    (cache / f"frames/03/x.parquet.{'0' * 32}.tmp").write_bytes(b"half")
    write_segment(cache, "judge", "z", recorded(judge_key(1), TeacherReply("no")), recorded(judge_key(2), {"a": 1}))
    (cache / "thesis.tex").write_bytes(b"mine")
    code, text = said("verify", "--cache", cache)
    assert code == 0
    for note in (
        "journal/judge, 1 x: a record half-written at the end",
        "journal/judge, 1 x: a record of a key that has an earlier record",
        "journal/judge, 1 x: a record of another version of hardquery",
        "files that no record names: 2, 21 bytes, such as audio/03/",
        "files that were not finished: 1, 4 bytes",
        "files that are not of hardquery: 1, 4 bytes, such as thesis.tex; they are left alone",
    ):
        assert f"note: {note}" in text
    assert text.endswith("7 records and 4 files, all sound\n")


def test_stats_count_what_is_there(cache, said):
    failed = [recorded(judge_key(9), failed=Failed("Broken", "", permanent)) for permanent in (False, True, True)]
    write_segment(cache, "judge", "z", *failed, recorded(judge_key(1, prompt="bb"), TeacherReply("no")), b"damage\n")
    code, text = said("stats", "--json", "--cache", cache)
    assert code == 0
    found = json.loads(text)
    judged = next(step for step in found["steps"] if step["step"] == "judge")
    assert {name: judged[name] for name in ("records", "keys", "repeated", "failed_transient", "failed_permanent")} == {
        "records": 7,
        "keys": 5,
        "repeated": 2,
        "failed_transient": 1,
        "failed_permanent": 2,
    }
    assert (judged["input_tokens"], judged["output_tokens"]) == (300, 30)
    assert 4 <= judged["seconds"] < 5
    assert judged["size_bytes"] == sum(path.stat().st_size for path in (cache / "journal" / "judge").iterdir())
    origins = [(origin["settings"], origin["engine"]["model"], origin["records"]) for origin in judged["origins"]]
    assert origins == [({"prompt": "aa"}, "rules-1", 6), ({"prompt": "bb"}, "rules-1", 1)]
    assert found["frames"] == {"files": 2, "size_bytes": 22}
    assert found["audio"] == {"files": 2, "size_bytes": 20}


def test_stats_name_engines_models_and_prompts(cache, said):
    code, text = said("stats", "--cache", cache)
    assert code == 0
    for words in ("rules 1.0", "rules-1", "prompt=aa", "pyav 18", "frames: 2 files, 22 bytes"):
        assert words in text


def test_stats_show_names_as_they_are(tmp_path, said):
    stamp = EngineStamp("rules", "1.0", "[red]model[/nope]", "f")
    journal = Journal(str(tmp_path))
    journal.once(Key("judge", "q", stamp, {"prompt": "[bold]"}, {"n": "1"}), lambda: 1, int)
    journal.close()

    code, text = said("stats", "--cache", tmp_path)

    assert code == 0
    assert "[red]model[/nope]" in text
    assert "prompt=[bold]" in text


def test_a_dry_run_says_what_pruning_frees_and_changes_nothing(cache, said, tmp_path):
    publish(str(cache), tmp_path, 3)
    before = sorted(cache.rglob("*"))
    text = said("prune", "--dry-run", "--cache", cache)[1]
    assert sorted(cache.rglob("*")) == before
    assert said("prune", "--cache", cache)[1] == text.replace("would be freed", "freed")
    assert "files that no record names: 2, 21 bytes" in text
    assert "journal/judge: records kept: 3; dropped: none; segments before: 2" in text


def test_pruning_is_refused_while_a_run_uses_the_cache(cache, said):
    journal = Journal(str(cache))
    journal.once(judge_key(1), lambda: TeacherReply("", usage=Usage(0, 0)), TeacherReply)
    code, text = said("prune", "--cache", cache)
    assert code == USAGE_ERROR
    assert text.startswith(f"hardquery: the cache {cache} is in use by process")
    assert said("verify", "--cache", cache)[0] == said("stats", "--cache", cache)[0] == 0
    journal.close()
    assert said("prune", "--cache", cache)[0] == 0


def test_the_cache_is_found_beside_an_output_or_in_the_current_folder(cache, said, tmp_path, monkeypatch):
    cache.rename(tmp_path / ".hardquery")
    assert said("verify", "--output", tmp_path / "demo")[0] == 0
    monkeypatch.chdir(tmp_path)
    assert said("verify") == (0, f"{tmp_path}/.hardquery: 5 records and 4 files, all sound\n")


def test_a_folder_that_is_no_cache_is_refused_and_left_as_it_is(tmp_path, said):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.tmp").write_bytes(b"meow")
    for command in ("stats", "verify", "prune"):
        for place in ("photos", "nowhere"):
            code, text = said(command, "--cache", tmp_path / place)
            assert code == USAGE_ERROR
            assert "is no cache of hardquery: name one with --cache DIR" in text
    assert [path.name for path in tmp_path.rglob("*")] == ["photos", "cat.tmp"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than", "30"], "'30' is no age such as 30d or 12h"),
        (["--output", "out"], "not allowed with"),
    ],
)
def test_wrong_options_are_refused(cache, capsys, arguments, message):
    assert main(["cache", "prune", "--cache", str(cache), *arguments]) == USAGE_ERROR
    assert message in capsys.readouterr().err


def test_a_step_without_records_is_refused(cache, said):
    code, text = said("prune", "--step", "jugde", "--cache", cache)
    assert code == USAGE_ERROR
    assert "--step 'jugde': the cache has records of decode, judge" in text


def test_a_cache_that_cannot_be_written_to_is_one_clear_error(cache, said, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(cache))

    monkeypatch.setattr("pipeline.cache.prune.replacing", refuse)
    code, text = said("prune", "--cache", cache)
    assert code == RUN_ERROR
    assert "cannot be read or written to" in text
    assert "make it writable" in text
    assert said("verify", "--cache", cache)[0] == 0


def test_decoding_again_after_pruning_gives_what_was_there(cache, said, tmp_path):
    (cache / f"frames/01/{1:016}.parquet").unlink()
    said("prune", "--cache", cache)
    assert not (cache / f"audio/01/{1:016}.flac").exists()
    decode(str(cache), tmp_path, 1)
    assert said("verify", "--cache", cache) == (0, f"{cache}: 5 records and 4 files, all sound\n")
    assert decode_key(1).digest in "".join(path.read_text() for path in (cache / "journal" / "decode").iterdir())
