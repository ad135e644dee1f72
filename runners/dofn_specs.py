"""Remembers which state and timers the DoFns of a class ask for, which Beam finds out anew for every copy of one.

Beam reads the signature of each of a DoFn's 35 methods four times a step while a graph is built, and again for every
bundle: a third of the time of a small run. What the methods of a class ask for does not change.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, cast
from weakref import WeakKeyDictionary

from apache_beam.transforms import core, userstate

Specs = tuple[set[Any], set[Any]]

_read = userstate.get_dofn_specs  # Beam's own
_by_class: WeakKeyDictionary[type, Specs] = WeakKeyDictionary()


def remember() -> None:
    """Have Beam ask this module from now on, in this process."""
    userstate.get_dofn_specs = dofn_specs


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


def _depend_on_class_alone(dofn: core.DoFn) -> bool:
    """Whether no method is this DoFn's own: Beam passes over mere functions, such as what ``beam.Map`` was given."""
    kind = type(dofn)
    if any(isinstance(value, MethodType) for value in vars(dofn).values()):
        return False
    # Other wrappers answer for the DoFn within; this one does so only for ``process``, which is its own.
    return kind is core.CallableWrapperDoFn or not any(name.startswith("_inspect_") for name in dir(kind))
