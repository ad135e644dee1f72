"""Groups of videos: near-duplicates, all of them found, and what of their events comes along."""

import random
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import find_engines
from tests.support.ranking_records import video
from transforms.curate.split import split_of
from transforms.group.alike import Alike, alike
from transforms.group.disjoint_sets import DisjointSets
from transforms.group.frame_hashes import HASH_BYTES, MOMENTS, VIEWS, FrameHashes
from transforms.group.group_videos import Group, GroupRules, Member, _grouped, _member, grouped
from transforms.group.near_duplicates import MOST_LONGER, Hashed, distance, near_duplicates
from transforms.journal.budget import Deferred
from transforms.protocols.embed import Embedding
from transforms.search.vector_file import write_vectors
from transforms.storage.cache import Cache, CachedFile

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


LOOKS = GroupRules(vectors=Alike("video"))


def direction(*coordinates: float) -> np.ndarray:
    return Embedding.of(np.array(coordinates)).vectors[0]


def names_of(members: list[Member], vectors: dict[str, np.ndarray], rules: GroupRules = LOOKS) -> dict[str, str]:
    return {video: group.near for video, group in grouped(members, rules, vectors=vectors)}


def test_copies_that_hashes_alone_do_not_show_are_joined_where_their_vectors_agree_too():
    bits = 12 * MOMENTS  # twice as many as make a copy by themselves
    members = [
        member("a", hashes(1)),
        member("b", hashes(1, bits, 1)),
        member("c", hashes(1, bits, 2)),  # looks otherwise to the embedder
        member("d", hashes(2)),  # looks the same to it, and is another picture
        member("e", hashes(1, bits, 3), duration_s=20.0),
        member("f", hashes(1, bits, 4)),  # has no vector
    ]
    same, other = direction(1, 0.1), direction(0.1, 1)
    vectors = {"a": same, "b": direction(1, 0.12), "c": other, "d": same, "e": same}

    assert names_of(members, vectors) == {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e", "f": "f"}
    assert names_of(members, vectors, RULES)["b"] == "b"
    assert names_of(members, vectors, GroupRules(vectors=Alike("video", cosine=1.0)))["b"] == "b"
    assert names_of(members, vectors, GroupRules(vectors=Alike("video", max_bits=11)))["b"] == "b"


def test_no_two_that_are_alike_are_missed_whatever_the_order_and_the_blocks():
    drawn = np.random.default_rng(0)
    centres = drawn.normal(size=(12, 16))
    vectors, videos = {}, []
    for n in range(120):
        vectors[f"v{n:03d}"] = direction(*(centres[n % 12] + 0.1 * drawn.normal(size=16)))
        videos.append(
            Hashed(f"v{n:03d}", 10 * 1.04 ** int(drawn.integers(6)), hashes(n % 12, int(drawn.integers(200)), n))
        )
    rule = Alike("video", 0.97, 16)
    wanted = DisjointSets(len(videos))
    for i, one in enumerate(videos):
        for j, other in enumerate(videos[:i]):
            lengths = sorted((one.duration_s, other.duration_s))
            cosine = float(vectors[one.video_id].astype(float) @ vectors[other.video_id].astype(float))
            if lengths[1] <= MOST_LONGER * lengths[0] and cosine >= 0.97 and distance(one.hashes, other.hashes) <= 16:
                wanted.join(i, j)

    found = alike(videos, vectors, rule)
    for block in (1, 7, 50):
        assert alike(videos[::-1], vectors, rule, block) == found
    joined = DisjointSets(len(videos))
    for one, other in found:
        assert joined.join(int(one[1:]), int(other[1:]))
    pairs = [(i, j) for i in range(len(videos)) for j in range(i)]
    assert [joined.find(i) == joined.find(j) for i, j in pairs] == [wanted.find(i) == wanted.find(j) for i, j in pairs]
    assert 20 < len(found) < 119


def test_the_vectors_of_a_run_are_read_from_the_cache_and_what_has_none_is_grouped_by_hashes(tmp_path, journal):
    cache = Cache(str(tmp_path))

    def stored(name: str, *rows: tuple[float, float]) -> CachedFile:
        write_vectors(str(tmp_path / "made"), Embedding.of(np.array(rows)))
        return cache.publish(str(tmp_path / "made"), f"vectors/00/{name}.npz")

    files = {"a": stored("a", (1.0, 0.0)), "b": stored("b", (1.0, 0.1), (1.0, -0.1))}  # whose mean is that of a

    def vectors_of(video):
        if video.video_id not in files:
            raise Deferred("calls")
        return files[video.video_id]

    found = [next(_member(video(name, frames=0), LOOKS, cache, journal, vectors_of)) for name in ("a", "b", "later")]
    assert [one.vectors for one in found] == [files["a"], files["b"], None]
    pictures = {"a": hashes(1), "b": hashes(1, 80, 1), "later": hashes(1, 80, 2)}
    seen = [replace(one, hashes=pictures[one.video_id]) for one in found]
    assert {name: group.near for name, group in _grouped(seen, LOOKS, cache)} == {"a": "a", "b": "a", "later": "later"}


def test_vectors_for_groups_are_those_of_a_run_that_sees_frames():
    with pytest.raises(ValueError, match="vectors stand beside max_bits"):
        GroupRules(max_bits=None, vectors=Alike("video"))
    for run in ("dense", "nobody"):
        with pytest.raises(RecipeError, match=rf"group\.vectors\.run: {run} is no first stage that embeds frames"):
            find_engines(load_recipe("demo", [f"group.vectors={{run: {run}}}"]))
