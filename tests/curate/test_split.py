from dataclasses import replace

from schemas.video import Evidence, Metadata, Video
from tests.support.ranking_records import video
from transforms.curate.split import split_of


def test_equal_keys_share_a_split_and_the_seed_deals_anew():
    keys = [f"video:{i}" for i in range(200)]
    first = [split_of(key, 0.3, 0) for key in keys]
    assert first == [split_of(key, 0.3, 0) for key in keys]
    assert first != [split_of(key, 0.3, 1) for key in keys]


def test_the_fraction_is_met_on_the_whole():
    share = sum(split_of(f"video:{i}", 0.1, 7) == "validation" for i in range(10_000)) / 10_000
    assert 0.09 < share < 0.11


def test_nothing_and_everything_can_be_held_out():
    assert {split_of(f"v{i}", 0.0, 0) for i in range(50)} == {"train"}
    assert {split_of(f"v{i}", 1.0, 0) for i in range(50)} == {"validation"}


def test_a_larger_fraction_keeps_what_a_smaller_one_held_out():
    keys = [f"v{i}" for i in range(500)]
    small, large = ({key for key in keys if split_of(key, f, 0) == "validation"} for f in (0.1, 0.3))
    assert small < large


def test_the_split_is_the_same_on_every_machine():
    assert [split_of(f"video:{i}", 0.5, 0)[0] for i in range(8)] == list("vtvvvvtt")


def test_videos_of_one_event_share_a_split():
    def of_event(video_id: str, event: str) -> Video:
        return replace(video(video_id), evidence=Evidence(metadata=Metadata(event=event)))

    for event in (f"event {i}" for i in range(20)):
        assert len({split_of(of_event(v, event).split_key, 0.5, 0) for v in "abcdefgh"}) == 1
    assert len({split_of(video(v).split_key, 0.5, 0) for v in "abcdefgh"}) == 2
