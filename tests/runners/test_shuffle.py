import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import GlobalWindows

from runners import local, shuffle


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(shuffle, "HELD", 200)
    monkeypatch.setattr(shuffle, "PART", 1500)
    monkeypatch.setattr(shuffle, "_PARTITIONS", 4)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_step_gets_all_of_its_input_once_from_files(little_memory, workers):
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    left = pipeline | "Left" >> beam.Create([(i % 20, "l" * i) for i in range(200)], reshuffle=False) | beam.Reshuffle()
    right = pipeline | "Right" >> beam.Create([(i % 30, i) for i in range(90)])
    names = pipeline | "Names" >> beam.Create([(i, f"name {i}") for i in range(30)])
    joined = (
        {"left": left, "right": right}
        | beam.CoGroupByKey()
        | beam.Map(
            lambda item, names: (names[item[0]], sorted(map(len, item[1]["left"])), sorted(item[1]["right"])),
            beam.pvalue.AsDict(names),
        )
    )
    none = pipeline | "None" >> beam.Create([], reshuffle=False) | beam.Map(lambda x: (x, x)) | beam.GroupByKey()
    together = (left | beam.Values() | beam.Map(len), right | "Numbers" >> beam.Values()) | beam.Flatten()

    expected = [(f"name {k}", [i for i in range(200) if i % 20 == k], [k, k + 30, k + 60]) for k in range(30)]
    assert_that(joined, equal_to(expected))
    assert_that(together | beam.CombineGlobally(sum), equal_to([sum(range(200)) + sum(range(90))]), "Sum")
    assert_that(none | beam.combiners.Count.Globally(), equal_to([0]), "Of none")
    local.run(pipeline, lambda over: over.wait(300))


class _Bundles(beam.DoFn):
    """Each bundle's keys, with how many values each has, as one element."""

    def start_bundle(self) -> None:
        self._keys: dict[int, int] = {}

    def process(self, item):
        self._keys[item[0]] = len(list(item[1]))

    def finish_bundle(self):
        yield GlobalWindows.windowed_value(self._keys)


@pytest.mark.parametrize(
    ("workers", "part", "least", "most"), [(1, 1 << 20, 4, 5), (2, 1 << 20, 8, 11), (1, 3000, 8, 32)]
)
def test_groups_beyond_what_is_held_are_given_in_few_bundles(monkeypatch, workers, part, least, most):
    monkeypatch.setattr(shuffle, "HELD", 200)
    monkeypatch.setattr(shuffle, "PART", part)
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    values = pipeline | beam.Create([(i % 300, "v" * 20) for i in range(900)])
    bundles = values | beam.GroupByKey() | beam.ParDo(_Bundles())

    def few(found: list[dict[int, int]]) -> None:
        assert {key: n for keys in found for key, n in keys.items()} == dict.fromkeys(range(300), 3)
        assert sum(map(len, found)) == 300
        assert least <= len(found) <= most, len(found)

    assert_that(bundles, few)
    local.run(pipeline, lambda over: over.wait(300))


def test_a_list_beyond_what_is_held_comes_back_in_order_and_in_parts(monkeypatch):
    monkeypatch.setattr(shuffle, "HELD", 10)
    monkeypatch.setattr(shuffle, "PART", 8)
    blocks = [bytes([65 + i]) * 4 for i in range(7)]
    kept = shuffle.SpillingList(None)
    for block in blocks:
        kept.append(block)
    copy = kept.copy()
    copy.append(b"more")

    assert list(kept) == blocks
    assert list(copy) == [*blocks, b"more"]
    assert list(kept.parts(1)) == [blocks[0:2], blocks[2:4], blocks[4:6], blocks[6:]]
    kept.clear()
    kept.reset()
    assert list(kept) == []
