"""What was worked out for a record that is met again and again, as a video's evidence is in all questions about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Concatenate, ParamSpec, TypeVar

Of = TypeVar("Of")
P = ParamSpec("P")
R = TypeVar("R")


def remembered(most: int) -> Callable[[Callable[Concatenate[Of, P], R]], Callable[Concatenate[Of, P], R]]:
    """Have a function keep its last ``most`` results; further arguments are positional and hashable.

    The first one is told apart by identity, not by value as in ``functools.lru_cache``: to hash an hour of speech takes
    longer than to find what was made of it. It must not change. Safe to call from threads.
    """

    def decorate(function: Callable[Concatenate[Of, P], R]) -> Callable[Concatenate[Of, P], R]:
        held: dict[tuple[object, ...], tuple[Of, R]] = {}
        changing = Lock()

        @wraps(function)
        def found(of: Of, /, *args: P.args, **no_names: P.kwargs) -> R:
            key = (id(of), *args)
            before = held.get(key)
            if before is not None:  # and holds its record, so that no other one has this id
                return before[1]
            result = function(of, *args, **no_names)
            with changing:
                held[key] = of, result
                while len(held) > most:
                    del held[next(iter(held))]
            return result

        return found

    return decorate
