"""Where a step runs, on a runner that has machines of several kinds: what it needs is asked for of that step alone."""

from __future__ import annotations

import re
from typing import Any

import apache_beam as beam

from schemas.check import require
from schemas.configuration.section import Section

_SIZE = re.compile(r"\d+(\.\d+)?\s*([KMGTP]i?)?B")


class Resources(Section, frozen=True):
    """What the machines of a step must have, as Beam's resource hints say it.

    ``accelerator`` such as "type:nvidia-l4;count:1;install-nvidia-driver"; ``min_ram`` such as "16GB", of the whole
    machine; ``cpu_count``; ``max_active_bundles_per_worker`` bounds what a machine works on at once.
    """

    accelerator: str | None = None
    min_ram: str | None = None
    cpu_count: int | None = None
    max_active_bundles_per_worker: int | None = None

    def __post_init__(self) -> None:
        if self.accelerator is not None:
            parts = dict(part.partition(":")[::2] for part in self.accelerator.split(";"))
            require(
                {"type", "count"} <= {*parts} and parts["count"].isdigit(),
                'accelerator must be such as "type:nvidia-l4;count:1;install-nvidia-driver"',
                self.accelerator,
            )
        if self.min_ram is not None:
            require(_SIZE.fullmatch(self.min_ram) is not None, "min_ram must be a size such as 16GB", self.min_ram)
        for name in ("cpu_count", "max_active_bundles_per_worker"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1", value)

    def hints(self) -> dict[str, str]:
        """As Beam takes them."""
        return {name: str(value) for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


def place(items: beam.PCollection, label: str, step: beam.PTransform, resources: Resources | None) -> Any:
    """``items | label >> step``, on machines that have the resources, apart from the steps before it.

    Without any, on whatever machine the steps before ran. Hints make a step an environment of its own, which other
    runners would start a process for: they are for a runner that gives each kind its own machines.
    """
    if resources is None or not resources.hints():
        return items | label >> step
    spread = items | f"Spread to {label}" >> beam.Reshuffle()
    return spread | label >> step.with_resource_hints(**resources.hints())
