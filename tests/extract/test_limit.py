import pytest

from schemas.video import ManifestEntry
from transforms.extract.limit import limited
from transforms.extract.list_input import Listing, list_input

NAMES = [f"clip{n:02}.mp4" for n in range(40)]


def drawn(names: list[str], limit: int | None, seed: int = 7, folder: str = "/videos") -> set[str]:
    listing = Listing(tuple(ManifestEntry(f"{folder}/{name}") for name in names))
    entries = limited(listing, folder, limit, seed).entries
    return {entry.uri.removeprefix(f"{folder}/") for entry in entries}


@pytest.mark.parametrize("limit", [1, 5, 39])
def test_a_larger_limit_takes_the_same_and_more(limit):
    assert drawn(NAMES, limit) < drawn(NAMES, limit + 1)


def test_a_video_that_is_new_puts_out_one_at_most():
    before = drawn(NAMES, 10)

    for new in [f"new{n}/clip.mp4" for n in range(20)]:
        assert len(before - drawn([*NAMES, new], 10)) <= 1


def test_the_draw_hangs_on_the_seed_and_not_on_the_place_of_the_folder_or_its_order():
    assert drawn(NAMES, 10) == drawn(NAMES[::-1], 10, folder="/elsewhere/my videos")
    assert drawn(NAMES, 10) != drawn(NAMES, 10, seed=8)


def test_of_no_more_videos_than_the_limit_all_are_taken_and_none_are_said_to_be_left_out():
    listing = Listing(tuple(ManifestEntry(f"/videos/{name}") for name in NAMES))

    assert limited(listing, "/videos", 40, 7) is listing
    assert limited(listing, "/videos", None, 7) is listing
    assert limited(listing, "/videos", 39, 7).all_entries == 40


def test_an_output_inside_the_input_is_no_part_of_it(tmp_path):
    output = tmp_path / "out"
    for name in ("manifest.json", "ledger.json", "run.trec", "qrels.trec", "exports/rankvideo/videos/00/0.mp4"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).touch()
    (tmp_path / ".hardquery").mkdir()
    (tmp_path / ".hardquery" / "frame.mp4").touch()
    (tmp_path / "clip.mp4").touch()

    listing = list_input(str(tmp_path))

    assert [entry.uri for entry in listing.entries] == [str(tmp_path / "clip.mp4")]
    assert listing.ignored == {}
