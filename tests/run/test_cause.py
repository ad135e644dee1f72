import threading

import apache_beam as beam
import pytest

from runners import local
from runners.cause import cause
from transforms.storage.files import StoreError


def _torn(_):
    try:
        raise ValueError("Unknown type tag c4")
    except ValueError as error:
        raise ValueError("Error decoding input stream\nwith coder WindowedValueCoder") from error


def _out_of_reach(_):
    try:
        raise ConnectionError("[Errno 111] refused")
    except ConnectionError as error:
        raise StoreError("cannot read s3://bucket/x: refused") from error


def _while_handling(_):
    try:
        raise KeyError("answered by what follows")
    except KeyError:
        raise RuntimeError("the disk is full")  # noqa: B904 - without `from`, on purpose


def _without_text(_):
    raise NotImplementedError


def _of_four_arguments(_):
    b"\xff".decode()


EXPECTED = [
    (_torn, "ValueError: Unknown type tag c4"),
    (_out_of_reach, "StoreError: cannot read s3://bucket/x: refused"),
    (_while_handling, "RuntimeError: the disk is full"),
    (_without_text, "NotImplementedError"),
    (_of_four_arguments, "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
]


@pytest.mark.parametrize(("fail", "line"), EXPECTED)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_run_names_the_error_that_it_began_with(fail, line, workers):
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    _ = pipeline | beam.Create([1]) | beam.Map(fail)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - of whatever class Beam makes of it
        local.run(pipeline, threading.Event.wait)

    assert cause(caught.value) == line


def test_bytes_that_are_no_element_are_named_and_not_the_coder_that_met_them():
    """As Beam's worker hands an error on: by its trace."""
    trace = (
        "Traceback (most recent call last):\n"
        '  File "apache_beam/coders/coder_impl.py", line 488, in decode_from_stream\n'
        "    raise ValueError('Unknown type tag %x' % t)\n"
        "ValueError: Unknown type tag c4\n"
        "\n"
        "The above exception was the direct cause of the following exception:\n"
        "\n"
        "Traceback (most recent call last):\n"
        '  File "apache_beam/runners/worker/sdk_worker.py", line 312, in _execute\n'
        "    response = task()\n"
        "ValueError: Error decoding input stream with coder WindowedValueCoder[FastPrimitivesCoder] in step See\n"
    )

    assert cause(RuntimeError(trace)) == "ValueError: Unknown type tag c4"


def test_an_error_that_was_never_raised_is_named_as_it_is():
    assert cause(OSError("the disk is full\nreally")) == "OSError: the disk is full"
