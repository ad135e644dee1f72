"""What an average call of a step takes, learnt from the journal's records of earlier ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from schemas.video import EngineStamp
from transforms.journal.budget import Cost
from transforms.journal.record import Record


@dataclass(frozen=True)
class Rate:
    """What an average call of a step takes; None is not known.

    ``measured`` says of the tokens that they are not the recipe's. ``cached_share`` is that of the input tokens which
    the server had cached. ``requests`` a call are more than 1 where some failed.
    """

    input_tokens: float
    output_tokens: float
    measured: bool
    seconds: float | None
    cached_share: float | None = None
    requests: float | None = None

    @classmethod
    def of(cls, records: Iterable[Record], stamp: EngineStamp | None, cost: Cost) -> Rate:
        """From records of this engine and model, else (tokens) of any, else as the recipe states.

        ``stamp`` is None of a step that is no engine's.
        """
        known = list(records)
        ours = [record for record in known if _model(record.engine) == _model(stamp)]
        same = [record for record in ours if record.failed is None]
        tokens_in, tokens_out = cost.input_tokens, cost.output_tokens
        told = [
            (record.usage.input_tokens, record.usage.output_tokens or 0)
            for record in same or known
            if record.failed is None and record.usage and record.usage.input_tokens is not None
        ]
        if told:
            tokens_in, tokens_out = (fmean(tokens) for tokens in zip(*told, strict=True))
        sent = [record.usage.requests for record in ours if record.usage and record.usage.requests is not None]
        return cls(
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            measured=bool(told),
            seconds=fmean(record.seconds for record in same) if same else None,
            cached_share=_cached_share(same),
            requests=fmean(sent) if sent else None,
        )


def _model(stamp: EngineStamp | None) -> tuple[str, str] | None:
    return (stamp.name, stamp.model) if stamp else None


def _cached_share(records: Iterable[Record]) -> float | None:
    told = [
        (record.usage.cached_tokens, record.usage.input_tokens)
        for record in records
        if record.usage and record.usage.cached_tokens is not None and record.usage.input_tokens
    ]
    return sum(cached for cached, _ in told) / sum(read for _, read in told) if told else None
