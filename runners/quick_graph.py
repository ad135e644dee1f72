"""Remembers what Beam finds out of functions anew for every step, and leaves out what it does in vain.

All of it together is a fifth of the time of a small run.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any, cast
from weakref import WeakKeyDictionary

from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2, metrics_pb2
from apache_beam.runners.portability.fn_api_runner.execution import BundleContextManager
from apache_beam.runners.worker import bundle_processor, operations, statecache
from apache_beam.transforms import core, ptransform
from apache_beam.typehints import decorators
from objsize import get_deep_size

_read_signature = decorators.get_signature  # Beam's own
_read_source = core._check_fn_use_yield_and_return
_tell_all = bundle_processor.BundleProcessor.monitoring_infos
_signatures: WeakKeyDictionary[FunctionType, inspect.Signature] = WeakKeyDictionary()
_signatures_of_methods: WeakKeyDictionary[FunctionType, inspect.Signature] = WeakKeyDictionary()  # without their self
_mixed: dict[CodeType, bool] = {}


def remember(local: bool = True) -> None:
    """Have Beam ask this module from now on, in this process.

    Another runner than the local one may have its workers in this process too: they do all that Beam's do, for it goes
    by what they tell it of how far they are.
    """
    decorators.get_signature = signature
    core._check_fn_use_yield_and_return = mixes_yield_and_return
    PipelineOptions._visible_option_list = option_names
    decorators.IOTypeHints._make_origin = no_origin
    BundleContextManager._build_process_bundle_descriptor = descriptor
    # What a step reads beside its input is weighed; each time, all names of all modules are noted, lest they count.
    statecache.objsize = SimpleNamespace(get_deep_size=partial(get_deep_size, exclude_modules_globals=False))
    # A step's function is pickled and read back to see whether that can be done, which its way into the graph shows.
    ptransform.pickler = SimpleNamespace(**{**vars(pickler), "roundtrip": lambda value: value})
    # A worker reads a step's function, and pickles it with its windows for what is to call it, which reads that twice.
    holding = SimpleNamespace(**{**vars(pickler), "dumps": Held, "loads": loads})
    bundle_processor.pickler = operations.pickler = holding if local else pickler
    bundle_processor.BundleProcessor.monitoring_infos = counted if local else _tell_all


@dataclass(frozen=True, slots=True)
class Held:
    """What stands for a pickle between two parts of a worker, of one step of one bundle: the value itself."""

    value: Any


def loads(pickled: bytes | Held) -> Any:
    """The value that was pickled, or the one that is held."""
    return pickled.value if isinstance(pickled, Held) else pickler.loads(pickled)


def descriptor(bundles: Any) -> beam_fn_api_pb2.ProcessBundleDescriptor:
    """What the workers of a stage are told, as Beam tells them; but of all collections those that the stage has."""
    whole = bundles.execution_context.pipeline_components
    transforms = {each.unique_name: each for each in bundles.stage.transforms}
    named = {name for each in transforms.values() for name in (*each.inputs.values(), *each.outputs.values())}
    return beam_fn_api_pb2.ProcessBundleDescriptor(
        id=bundles.bundle_uid,
        transforms=transforms,
        pcollections={name: whole.pcollections[name] for name in named},
        coders=dict(whole.coders),
        windowing_strategies=dict(whole.windowing_strategies),
        environments=dict(whole.environments),
        state_api_service_descriptor=bundles.state_api_service_descriptor(),
        timer_api_service_descriptor=bundles.data_api_service_descriptor(),
    )


def counted(bundle: Any) -> list[metrics_pb2.MonitoringInfo]:
    """What the steps of a bundle have counted themselves; not how long each took, and how much it gave to the next."""
    found: dict[Any, metrics_pb2.MonitoringInfo] = {}
    for name, step in bundle.ops.items():
        found.update(step.user_monitoring_infos(name))
    return list(found.values())


def no_origin(*_: Any, **__: Any) -> list[str]:
    """The lines of code by which a type hint came about, which Beam reads for each, and shows where types clash."""
    return []


def signature(function: Any) -> inspect.Signature:
    """The signature of anything that can be called, as Beam reads it."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    known = _signatures if plain is function else _signatures_of_methods
    if not isinstance(plain, FunctionType):
        return cast(inspect.Signature, _read_signature(function))
    if plain not in known:
        known[plain] = _read_signature(function)
    return known[plain]


def mixes_yield_and_return(method: Any) -> bool:
    """Whether a function's source both yields and returns a value, which Beam warns of."""
    function = method.__func__ if isinstance(method, MethodType) else method
    if not isinstance(function, FunctionType):
        return cast(bool, _read_source(method))
    code = function.__code__
    if code not in _mixed:
        _mixed[code] = _read_source(method)
    return _mixed[code]


def option_names(options: PipelineOptions) -> list[str]:
    """The names of the options of one kind, which Beam sorts for every look at one of them."""
    return [name for name in vars(options._visible_options) if not name.startswith("_")]
