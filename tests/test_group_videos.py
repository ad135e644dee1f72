"""Groups of videos: near-duplicates, all of them found, and what of their events comes along."""

import random

import numpy as np
import pytest

from transforms.curate.split import split_of
from transforms.group.disjoint_sets import DisjointSets
from transforms.group.frame_hashes import HASH_BYTES, MOMENTS, VIEWS, FrameHashes
from transforms.group.group_videos import Group, GroupRules, Member, grouped
from transforms.group.near_duplicates import MOST_LONGER, Hashed, distance, near_duplicates

RULES = GroupRules()


def flipped(base: bytes, bits: int, seed: int = 0) -> bytes:
    """``base`` with so many bits turned."""
    values = np.unpackbits(np.frombuffer(base, np.uint8))
    values[np.random.default_rng(seed).permutation(len(values))[:bits]] ^= 1
    return np.packbits(values).tobytes()


def hashes(seed: int, bits: int = 0, turned: int = 0) -> FrameHashes:
    """Random hashes of a video, alike for one ``seed`` but for ``bits`` of all moments together."""
    base = np.random.default_rng(seed).bytes(len(VIEWS) * HASH_BYTES)
    views = [base[start : start + HASH_BYTES] for start in range(0, len(base), HASH_BYTES)]
    return FrameHashes(tuple(flipped(view, bits, turned) for view in views), MOMENTS)


def member(video_id: str, seen: FrameHashes | None = None, event: str = "", duration_s: float = 10.0) -> Member:
    return Member(video_id, f"event:{event}" if event else f"video:{video_id}", duration_s, seen)


def groups_of(*members: Member, rules: GroupRules = RULES, **options) -> dict[str, Group]:
    return dict(grouped(members, rules, **options))


def test_without_near_duplicates_every_split_key_is_the_video_s_own():
    members = [member(f"v{n}", hashes(n), event="flood" if n % 3 == 0 else "") for n in range(9)]

    found = groups_of(*members, member("sound"))

    assert {name: group.split_key for name, group in found.items()} == {m.video_id: m.split_key for m in members} | {
        "sound": "video:sound"
    }
    assert all(group.near == name for name, group in found.items())


def test_near_duplicates_share_the_key_of_their_event_which_comes_before_ids():
    found = groups_of(
        member("a", hashes(1)), member("z", hashes(1, bits=48), event="flood"), member("y", hashes(2), event="flood")
    )

    assert found["a"] == found["z"] == Group("a", "event:flood")
    assert found["y"] == Group("y", "event:flood")
    assert len({split_of(group.split_key, 0.5, 0) for group in found.values()}) == 1


def test_a_near_duplicate_joins_two_events_under_the_smaller_name():
    found = groups_of(
        member("a", hashes(1), event="storm"),
        member("b", hashes(1), event="flood"),
        member("c", hashes(3), event="storm"),
    )

    assert {group.split_key for group in found.values()} == {"event:flood"}
    assert found["c"].near == "c"


@pytest.mark.parametrize(("bits", "joined"), [(0, True), (48, True), (49, False)])
def test_the_limit_is_a_mean_over_the_moments(bits, joined):
    found = groups_of(member("a", hashes(1)), member("b", hashes(1, bits)))

    assert (found["b"].near == "a") == joined


def test_nothing_is_joined_where_the_recipe_looks_for_no_near_duplicates():
    found = groups_of(member("a", hashes(1)), member("b", hashes(1)), rules=GroupRules(max_bits=None))

    assert found["b"] == Group("b", "video:b")


@pytest.mark.parametrize(("longer", "joined"), [(MOST_LONGER, True), (1.2, False)])
def test_a_video_of_another_length_is_no_copy(longer, joined):
    found = groups_of(member("a", hashes(1), duration_s=10.0), member("b", hashes(1), duration_s=10.0 * longer))

    assert (found["b"].near == "a") == joined


def test_videos_that_show_nothing_are_like_no_other():
    black = FrameHashes((bytes(HASH_BYTES),) * len(VIEWS), MOMENTS // 2 - 1)

    assert {group.near for group in groups_of(member("a", black), member("b", black)).values()} == {"a", "b"}


def test_a_crop_is_found_by_the_middle_of_the_other_s_pictures():
    whole, cropped = hashes(1), hashes(2)
    cropped = FrameHashes((flipped(whole.views[2], 10), *cropped.views[1:]), MOMENTS)

    assert distance(whole, cropped) == distance(cropped, whole) == 10 / MOMENTS
    for first, second in (("a", "b"), ("b", "a")):
        assert len({g.near for g in groups_of(member(first, whole), member(second, cropped)).values()}) == 1


def test_a_chain_is_cut_at_its_longest_link_where_the_group_would_be_too_large_and_an_event_never():
    chain = [member(f"v{n}", hashes(1, 20 * n)) for n in range(3)]  # turned bits are nested: 20 bits a link
    far = member("v3", hashes(1, 20 * 2 + 40))
    event = [member(f"w{n}", hashes(10 + n), event="flood") for n in range(5)]

    found = groups_of(*chain, far, *event, most=3)

    assert [found[f"v{n}"].near for n in range(4)] == ["v0", "v0", "v0", "v3"]
    assert {found[f"w{n}"].split_key for n in range(5)} == {"event:flood"}
    assert {group.near for group in groups_of(*chain, far).values()} == {"v0"}


def test_no_pair_is_missed_whatever_the_order_and_the_blocks():
    drawn = random.Random(0)
    videos = [
        Hashed(f"v{n:03d}", 10 * 1.03 ** drawn.randrange(12), hashes(n % 40, drawn.randrange(40), n))
        for n in range(160)
    ]
    alike = {
        frozenset((a.video_id, b.video_id))
        for a in videos
        for b in videos
        if a.video_id < b.video_id
        and max(a.duration_s, b.duration_s) <= MOST_LONGER * min(a.duration_s, b.duration_s)
        and distance(a.hashes, b.hashes) <= 6
    }

    def components(pairs) -> set[frozenset[str]]:
        sets, places = DisjointSets(len(videos)), {video.video_id: n for n, video in enumerate(videos)}
        for left, right in pairs:
            sets.join(places[left], places[right])
        named: dict[int, set[str]] = {}
        for video_id, place in places.items():
            named.setdefault(sets.find(place), set()).add(video_id)
        return set(map(frozenset, named.values()))

    forest = near_duplicates(videos, 6)
    assert 20 < len(alike) > len(forest)
    assert components(forest) == components(alike)
    for block in (7, 64):
        assert near_duplicates(drawn.sample(videos, len(videos)), 6, block) == forest
