"""Remembers what the methods of a DoFn's class ask for, which Beam finds out anew for every copy of one.

Beam reads the signature of each of a DoFn's 35 methods four times a step while a graph is built, and again for every
bundle: a third of the time of a small run. What the methods of a class ask for does not change.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, cast
from weakref import WeakKeyDictionary

from apache_beam.transforms import core, userstate

Specs = tuple[set[Any], set[Any]]
Arguments = tuple[list[str], list[Any]]

_read = userstate.get_dofn_specs  # Beam's own
_read_arguments = core.get_function_arguments
_by_class: WeakKeyDictionary[type, Specs] = WeakKeyDictionary()
_arguments_by_class: WeakKeyDictionary[type, dict[str, Arguments]] = WeakKeyDictionary()
_wrappers: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def remember() -> None:
    """Have Beam ask this module from now on, in this process."""
    userstate.get_dofn_specs = dofn_specs
    core.get_function_arguments = function_arguments


def dofn_specs(dofn: core.DoFn) -> Specs:
    """The state and timer specs in the signatures of a DoFn's methods, as Beam finds them.

    Raises:
        ValueError: a method asks for the same one twice.
    """
    kind = type(dofn)
    if not _depend_on_class_alone(dofn):
        return cast(Specs, _read(dofn))
    if kind not in _by_class:
        _by_class[kind] = _read(dofn)
    states, timers = _by_class[kind]
    return set(states), set(timers)


def function_arguments(dofn: Any, method: str) -> Arguments:
    """The names of a method's arguments and its defaults, as Beam finds them."""
    kind = type(dofn)
    if method in vars(dofn) or hasattr(kind, f"_inspect_{method}"):  # it is this DoFn's own, or another's within
        return cast(Arguments, _read_arguments(dofn, method))
    of_class = _arguments_by_class.setdefault(kind, {})
    if method not in of_class:
        of_class[method] = _read_arguments(dofn, method)
    names, defaults = of_class[method]
    return list(names), list(defaults)


def _depend_on_class_alone(dofn: core.DoFn) -> bool:
    """Whether no method is this DoFn's own: Beam passes over mere functions, such as what ``beam.Map`` was given."""
    kind = type(dofn)
    if any(isinstance(value, MethodType) for value in vars(dofn).values()):
        return False
    # Other wrappers answer for the DoFn within; this one does so only for ``process``, which is its own.
    if kind not in _wrappers:
        _wrappers[kind] = any(name.startswith("_inspect_") for name in dir(kind))
    return kind is core.CallableWrapperDoFn or not _wrappers[kind]
