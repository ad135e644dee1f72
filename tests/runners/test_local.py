import threading

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.worker import data_plane
from apache_beam.testing.util import assert_that, equal_to

from runners import local


def test_an_unknown_flag_is_named_with_the_closest_one():
    with pytest.raises(ValueError, match=r"--runer is no option of Beam; did you mean --runner\?"):
        local.pipeline_options(["--runer=FnApiRunner"], 1)


def test_a_local_run_has_as_many_threads_as_workers():
    options = local.pipeline_options([], 2).get_all_options()

    assert (options["direct_num_workers"], options["direct_running_mode"]) == (2, "multi_threading")


def test_flags_of_other_runners_pass_through():
    options = local.pipeline_options(["--runner=FlinkRunner", "--flink_master=[local]"], 2)

    assert local.runner_name(options) == "FlinkRunner"
    assert not local.is_local(options)


def test_types_are_checked_of_a_graph_that_goes_elsewhere_alone():
    here, elsewhere = local.pipeline_options([], 1), local.pipeline_options(["--runner=PortableRunner"], 1)
    for options in (here, elsewhere):
        local.make_pipeline(options)

    assert not here.view_as(TypeOptions).pipeline_type_check
    assert elsewhere.view_as(TypeOptions).pipeline_type_check


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pipeline_runs_to_its_end_and_watching_is_told(workers):
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    _ = pipeline | beam.Create([1, 2, 3]) | beam.Map(lambda x: x)
    watched = []

    local.run(pipeline, lambda over: watched.append(over.wait(300)))

    assert watched == [True]


@pytest.mark.parametrize("workers", [2, 4])
def test_every_element_of_a_long_bundle_arrives(workers, monkeypatch):
    """With Beam's thread that empties the buffers of workers, here 500 times as often as it would, thousands do not."""
    monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", 2)
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    starts = pipeline | beam.Create(range(4), reshuffle=False) | beam.Reshuffle()
    emitted = starts | beam.FlatMap(lambda _: (2000 * "x" for _ in range(6000)))
    none = pipeline | "None" >> beam.Create([], reshuffle=False)  # a Flatten keeps Beam from joining the two steps

    assert_that((emitted, none) | beam.Flatten() | beam.combiners.Count.Globally(), equal_to([24_000]))

    local.run(pipeline, threading.Event.wait)


def test_a_worker_gets_much_input_in_many_messages(monkeypatch):
    sizes = []
    send = data_plane._GrpcDataChannel._enqueue_to_send

    def noted(channel, message):
        sizes.append(message.ByteSize())
        send(channel, message)

    monkeypatch.setattr(data_plane._GrpcDataChannel, "_enqueue_to_send", noted)
    pipeline = local.make_pipeline(local.pipeline_options([], 2))
    emitted = pipeline | beam.Create([0], reshuffle=False) | beam.FlatMap(lambda _: (2000 * "x" for _ in range(12_000)))
    none = pipeline | "None" >> beam.Create([], reshuffle=False)

    assert_that((emitted, none) | beam.Flatten() | beam.combiners.Count.Globally(), equal_to([12_000]))

    local.run(pipeline, threading.Event.wait)
    assert 5_000_000 < max(sizes) < 15_000_000


@pytest.fixture
def streams(monkeypatch):
    """The buffers that are made from now on."""
    made = []
    create = data_plane.ClosableOutputStream.create
    stub = staticmethod(lambda *arguments: made.append(create(*arguments)) or made[-1])
    monkeypatch.setattr(data_plane.ClosableOutputStream, "create", stub)
    return made


@pytest.mark.parametrize("workers", [1, 2])
def test_no_thread_empties_the_buffers_of_a_worker(workers, streams, monkeypatch):
    monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", 1000)  # as Beam has it
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    _ = pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle() | beam.Map(lambda x: x)

    local.run(pipeline, threading.Event.wait)

    assert streams
    assert not [one for one in streams if isinstance(one, data_plane.TimeBasedBufferingClosableOutputStream)]


def test_nor_those_of_the_pipelines_of_tests(streams):
    options = PipelineOptions(["--direct_running_mode=multi_threading", "--direct_num_workers=2"])
    with beam.Pipeline(runner="FnApiRunner", options=options) as pipeline:
        _ = pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle() | beam.Map(lambda x: x)

    assert streams
    assert not [one for one in streams if isinstance(one, data_plane.TimeBasedBufferingClosableOutputStream)]
