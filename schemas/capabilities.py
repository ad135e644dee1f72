"""What a model's server was seen to do when a run began, whatever it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Support = Literal["yes", "ignored", "refused", "unknown"]
ExactBy = Literal["", "logprob_token_ids", "token_ids_logprob"]
"""The parameter that asks for log-probabilities of chosen tokens: vLLM's, with each reply, or SGLang's, after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the server at ``server`` makes of a request; "unknown" is what was not asked, or not answered for now.

    ``json_schema`` says whether it constrains replies to a schema, ``schema_bounds`` whether it takes one that bounds
    strings and lists; ``logprobs`` whether it reports log-probabilities, ``alternatives`` of how many tokens at each
    place, ``top_logprobs`` for how many it lets itself be asked, where these are fewer than wanted, and
    ``logprobs_mode`` whether they are the model's ("raw") or follow the temperature ("processed"); ``n`` whether it
    gives several replies to one request, ``prefill`` whether it goes on from the start of an answer. ``logprobs_exact``
    says whether it reports the log-probabilities of the tokens that it is asked for by their ids, and ``exact_ids`` are
    those of its tokens that spell yes or no, which are asked for ``exact_by`` a parameter. ``usage`` names the counts
    that it reports (see ``Usage``), ``context_tokens`` is how much it reads and writes at a time, None where it does
    not say, ``reads_tokens`` how much of a longer prompt it was seen to read without a word. ``lacks`` says in a line
    what it lacks of what the recipe asks for, and what is done instead.
    """

    server: str
    json_schema: Support = "unknown"
    schema_bounds: Support = "unknown"
    logprobs: Support = "unknown"
    alternatives: int | None = None
    top_logprobs: int | None = None
    logprobs_mode: Literal["raw", "processed", "unknown"] = "unknown"
    n: Support = "unknown"
    prefill: Support = "unknown"
    logprobs_exact: Support = "unknown"
    exact_ids: tuple[int, ...] = ()
    exact_by: ExactBy = ""
    usage: tuple[str, ...] = ()
    context_tokens: int | None = None
    reads_tokens: int | None = None
    lacks: str = ""
