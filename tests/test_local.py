import threading

import apache_beam as beam
import pytest

from runners import local


def test_an_unknown_flag_is_named_with_the_closest_one():
    with pytest.raises(ValueError, match=r"--runer is no option of hardquery or Beam; did you mean --runner\?"):
        local.pipeline_options(["--runer=FnApiRunner"], 1)


def test_a_local_run_has_as_many_threads_as_workers():
    options = local.pipeline_options([], 2).get_all_options()

    assert (options["direct_num_workers"], options["direct_running_mode"]) == (2, "multi_threading")


def test_flags_of_other_runners_pass_through():
    options = local.pipeline_options(["--runner=FlinkRunner", "--flink_master=[local]"], 2)

    assert local.runner_name(options) == "FlinkRunner"
    assert not local.is_local(options)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pipeline_runs_to_its_end_and_watching_is_told(workers):
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    _ = pipeline | beam.Create([1, 2, 3]) | beam.Map(lambda x: x)
    watched = []

    local.run(pipeline, lambda over: watched.append(over.wait(60)))

    assert watched == [True]


def test_an_error_in_the_pipeline_reaches_the_caller_with_its_cause():
    def fail(_):
        raise ValueError("the disk is full")

    pipeline = local.make_pipeline(local.pipeline_options([], 1))
    _ = pipeline | beam.Create([1]) | beam.Map(fail)

    with pytest.raises(Exception, match="the disk is full") as caught:
        local.run(pipeline, threading.Event.wait)

    assert local.cause(caught.value) == "ValueError: the disk is full"
