"""What a server took for a call: tokens and requests."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from schemas.check import pickled_by_fields, require

_PARTS = (
    ("cached_tokens", "input_tokens"),
    ("cache_write_tokens", "input_tokens"),
    ("reasoning_tokens", "output_tokens"),
)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Usage:
    """What a server took for one call: the tokens of its reply, and the requests that it came by. None is not known.

    ``cached_tokens``, which the server had read before, and ``cache_write_tokens``, which it keeps for later, are parts
    of ``input_tokens``; ``reasoning_tokens`` are part of ``output_tokens``. ``retries`` are all ``requests`` but the
    first; tokens of requests without a reply are not known, and are not among these.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    requests: int | None = None
    retries: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.known().items():
            require(value >= 0, f"{name} must be at least 0", value)
        for part, whole in _PARTS:
            of, all_of = getattr(self, part), getattr(self, whole)
            if of is not None:
                require(all_of is not None and of <= all_of, f"{part} are part of {whole}, which are {all_of}", of)

    def sent(self, requests: int) -> Usage:
        """The same of a call that took so many requests, each but the first because the one before it failed."""
        return replace(self, requests=requests, retries=requests - 1)

    def plus(self, other: Usage) -> Usage:
        """The same of two calls that made one reply; what one of them does not tell is not known."""
        both = {name: (getattr(self, name), getattr(other, name)) for name in USAGE}
        return Usage(**{name: None if None in pair else sum(pair) for name, pair in both.items()})

    def known(self) -> dict[str, int]:
        """What is known, by name."""
        return {name: value for name in USAGE if (value := getattr(self, name)) is not None}


USAGE = tuple(field.name for field in fields(Usage))
