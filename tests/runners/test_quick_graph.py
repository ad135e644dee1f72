import inspect
from functools import partial

import apache_beam as beam
import objsize
import pytest
from apache_beam.internal import pickler
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, WorkerOptions
from apache_beam.runners.portability.fn_api_runner.execution import BundleContextManager
from apache_beam.runners.worker import bundle_processor, operations, statecache
from apache_beam.runners.worker.bundle_processor import BundleProcessor
from apache_beam.transforms import core, ptransform
from apache_beam.typehints import decorators

from runners.local import make_pipeline, pipeline_options
from runners.quick_graph import _read_signature as beams_signature
from runners.quick_graph import _read_source as beams_check
from runners.quick_graph import counted, descriptor, mixes_yield_and_return, option_names, remember, signature
from tests.support.tiny_output import tiny_rows
from transforms.journal.budget import Cost

TINY = tiny_rows()
beams_weight = partial(
    objsize.get_deep_size,
    get_size_func=statecache._size_func,
    get_referents_func=statecache._get_referents_func,
    filter_func=statecache._filter_func,
)
beams_descriptor = BundleContextManager._build_process_bundle_descriptor
beams_counts = BundleProcessor.monitoring_infos


def yields(item: int):
    yield item


def returns(item: int = 1, *more: str) -> list[int]:
    return [item, *map(int, more)]


def mixes(item):
    if item:
        return [item]
    yield item


FOUND = []


class Methods:
    def yields(self, item):
        yield item

    def mixes(self, item):
        if item:
            return [item]
        yield item


FUNCTIONS = [yields, returns, mixes, Methods().yields, Methods().mixes, Methods, len, str.strip, lambda item: [item]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_signatures_are_those_that_beam_reads_the_first_time_and_again(function):
    assert signature(function) == signature(function) == beams_signature(function)


@pytest.mark.parametrize("function", [one for one in FUNCTIONS if one is not Methods])
def test_a_function_that_yields_and_returns_is_told_as_beam_tells_it(function):
    assert mixes_yield_and_return(function) == mixes_yield_and_return(function) == beams_check(function)


def test_both_functions_and_methods_that_mix_are_found():
    assert [mixes_yield_and_return(each) for each in (mixes, Methods().mixes, Methods().yields)] == [True, True, False]


@pytest.mark.parametrize("kind", [PipelineOptions, StandardOptions, WorkerOptions])
def test_options_of_a_kind_have_the_names_that_beam_lists(kind):
    options = PipelineOptions(["--runner=FnApiRunner", "--save_main_session"]).view_as(kind)
    every = [name for name in dir(options._visible_options) if not name.startswith("_")]

    assert sorted(option_names(options)) == sorted(every)


def keep(item):
    FOUND.append(item)


def test_a_stage_is_told_of_its_own_collections_and_of_all_else_as_beam_tells_it(monkeypatch):
    told = []

    def both(bundles):
        told.append((beams_descriptor(bundles), descriptor(bundles)))
        return told[-1][1]

    monkeypatch.setattr(BundleContextManager, "_build_process_bundle_descriptor", both)
    FOUND.clear()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        numbers = pipeline | beam.Create([1, 2, 3, 4])
        total = numbers | beam.CombineGlobally(sum)
        shares = numbers | beam.Map(
            lambda number, total: (number % 2 == 1, number / total), beam.pvalue.AsSingleton(total)
        )
        _ = shares | beam.GroupByKey() | beam.Map(keep)

    assert {odd: sorted(shares) for odd, shares in FOUND} == {False: [0.2, 0.4], True: [0.1, 0.3]}
    assert len(told) > 3
    for beams, ours in told:
        steps = ours.transforms.values()
        own = {name for step in steps for name in (*step.inputs.values(), *step.outputs.values())}
        assert own < set(beams.pcollections)
        for name in set(beams.pcollections) - own:
            del beams.pcollections[name]
        assert ours == beams


@pytest.mark.parametrize(
    "value", ["text", [1, 2.5, None], {"a": [Cost(3.0)]}, [TINY, TINY], (print, pytest, Cost), PipelineOptions([])]
)
def test_what_is_read_beside_the_input_is_as_heavy_as_beam_finds_it(value):
    beams = beams_weight(value)
    remember()

    assert statecache.get_deep_size(value) == beams > 0


def test_beam_asks_what_is_remembered():
    remember()

    assert BundleContextManager._build_process_bundle_descriptor is descriptor
    assert decorators.IOTypeHints.empty().with_output_types(int).origin == []
    assert decorators.get_signature is signature
    assert core._check_fn_use_yield_and_return is mixes_yield_and_return
    assert ptransform.pickler.dumps(1)
    assert inspect.signature(returns) == decorators.get_signature(returns)


class Noting(beam.DoFn):
    """Says whether the copy of it that is called is the one that was set up, and no other stage's."""

    def __init__(self):
        self.seen = []

    def setup(self):
        self.seen.append("set up")

    def process(self, item):
        self.seen.append(item)
        FOUND.append(tuple(self.seen))
        yield item


def test_workers_of_another_runner_in_this_process_do_as_beams():
    elsewhere = PipelineOptions(["--runner=PortableRunner", "--job_endpoint=localhost:1"])
    try:
        make_pipeline(elsewhere)
        assert BundleProcessor.monitoring_infos is beams_counts  # by which it sees how far they are
        assert bundle_processor.pickler is operations.pickler is pickler
    finally:
        make_pipeline(pipeline_options([], workers=1))
    assert BundleProcessor.monitoring_infos is counted
    assert bundle_processor.pickler is operations.pickler is not pickler


def test_every_stage_has_a_copy_of_a_function_and_calls_the_one_that_it_set_up():
    remember()
    FOUND.clear()
    noting = Noting()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        once = pipeline | beam.Create(["a"]) | "once" >> beam.ParDo(noting) | beam.Reshuffle()
        _ = once | "again" >> beam.ParDo(noting)

    assert FOUND == [("set up", "a")] * 2
    assert noting.seen == []


def count(item):
    Metrics.counter("items", f"number {item}").inc(item)
    Metrics.distribution("items", "size").update(item)
    return item


@pytest.mark.parametrize("told", [beams_counts, counted])
def test_what_steps_count_is_told_and_of_nothing_else_than_that(told, monkeypatch):
    monkeypatch.setattr(BundleProcessor, "monitoring_infos", told)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create([1, 2, 2]) | beam.Map(count) | beam.Reshuffle() | "again" >> beam.Map(count)

    result = pipeline.run()

    found = result.metrics().query()
    assert sorted((each.key.step, each.key.metric.name, each.committed) for each in found["counters"]) == [
        (step, *counts) for step in ("Map(count)", "again") for counts in (("number 1", 1), ("number 2", 4))
    ]
    assert [each.committed.sum for each in found["distributions"]] == [5, 5]
    mine = [info.labels.get("NAMESPACE") == "items" for info in result.monitoring_infos()]
    assert all(mine) == (told is counted)
    assert sum(mine) == 6


def test_a_function_that_cannot_be_pickled_is_still_refused_before_anything_runs():
    items, ran = iter(range(3)), []
    unpicklable = (item for item in items)
    remember()
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create([1]) | beam.Map(lambda item: ran.append(next(unpicklable)))

    with pytest.raises(RuntimeError, match=r"Unable to translate Map"):
        pipeline.run()
    assert ran == []
