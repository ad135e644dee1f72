"""Records between processes: the same bytes as Python's own way makes, and nothing lost."""

import dataclasses
import pickle
from dataclasses import dataclass, fields, is_dataclass

import pytest

from schemas import difficulty, example, losses, query, token, usage, video
from schemas.check import pickled_by_fields
from schemas.query import Candidate, Margin
from schemas.token import Token

MODULES = (difficulty, example, losses, query, token, usage, video)
MOVED = [
    kind
    for module in MODULES
    for kind in vars(module).values()
    if is_dataclass(kind) and kind.__module__ == module.__name__ and "__slots__" in vars(kind)
]


@dataclass(frozen=True, slots=True)
class Plain:
    x: int
    name: str = ""


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Place(Plain):
    at: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Wider(Place):
    more: int = 1


@pytest.mark.parametrize("record", [Place(1, "a", (0.5,)), Wider(1, more=7), Margin(1.0, 0.5, 2.0), Token(b"y", -1.0)])
def test_a_record_comes_back_as_it_was(record):
    assert pickle.loads(pickle.dumps(record)) == record


def test_its_bytes_are_those_that_python_makes():
    record = Candidate("v", 3, 0.5)
    ours = pickle.dumps(record)
    state = dataclasses._dataclass_getstate(record)

    assert record.__getstate__() == state
    assert ours == pickle.dumps(record)


@pytest.mark.parametrize("kind", MOVED, ids=lambda kind: kind.__name__)
def test_every_record_that_is_moved_knows_its_own_fields(kind):
    assert kind.__getstate__.__module__ == "schemas.check"
    made = object.__new__(kind)
    values = list(range(len(fields(kind))))
    made.__setstate__(values)

    assert made.__getstate__() == values == [getattr(made, field.name) for field in fields(kind)]
