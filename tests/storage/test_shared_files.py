import os

from transforms.storage.shared_files import share_files

HASHES = {"videos/a.parquet": "1" * 64, "videos/b.parquet": "2" * 64}


def folder(place, **files):
    (place / "videos").mkdir(parents=True)
    for name, content in files.items():
        (place / "videos" / f"{name}.parquet").write_text(content)
    return str(place)


def names_of(place, name):
    return os.stat(os.path.join(place, "videos", f"{name}.parquet")).st_nlink


def test_equal_files_of_two_outputs_are_one_file_with_two_names_and_each_outlives_the_other(tmp_path):
    register = str(tmp_path / "cache" / "outputs")
    first, second = (folder(tmp_path / name, a="frames", b=name) for name in ("one", "two"))

    assert share_files(first, HASHES, register) == 0
    assert share_files(second, HASHES | {"videos/b.parquet": "3" * 64}, register) == 1

    assert [names_of(second, "a"), names_of(second, "b"), names_of(first, "b")] == [2, 1, 1]
    os.remove(f"{first}/videos/a.parquet")
    assert (tmp_path / "two" / "videos" / "a.parquet").read_text() == "frames"
    assert sorted(os.listdir(f"{second}/videos")) == ["a.parquet", "b.parquet"]


def test_a_second_time_a_file_is_left_as_it_is_and_an_output_is_registered_once(tmp_path):
    register = tmp_path / "outputs"
    first, second = (folder(tmp_path / name, a="frames", b="more") for name in ("one", "two"))

    assert [share_files(each, HASHES, str(register)) for each in (first, second, second, first)] == [0, 2, 2, 2]

    assert names_of(first, "a") == 2
    assert len(list(register.iterdir())) == 2


def test_a_file_that_is_not_what_its_hash_says_is_not_shared_nor_one_that_is_gone(tmp_path):
    register = tmp_path / "outputs"
    first = folder(tmp_path / "one", a="damaged", b="more")
    second = folder(tmp_path / "two", a="frames", b="more")
    share_files(first, HASHES, str(register))
    os.remove(f"{first}/videos/b.parquet")
    (register / "torn.json").write_text('{"folder": "/x", "has')

    assert share_files(second, HASHES, str(register)) == 0

    assert (tmp_path / "two" / "videos" / "a.parquet").read_text() == "frames"
