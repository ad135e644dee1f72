"""Prices of hosted models by name, from one dated file: for recipes that state none of their own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

HOST = "api.openai.com"  # whose prices these are; another host may ask others for a model of the same name
# The keys of a recipe that say who is asked at a step; where the first says nobody, the next does.
_ASKED_BY = {
    "caption": ("extract.caption",),
    "write": ("synthesize.teacher",),
    "judge": ("judge.teacher",),
    "negatives": ("synthesize.negative_queries.teacher", "synthesize.teacher"),
    "verify": ("synthesize.negative_queries.verifier", "judge.teacher"),
}
_OF_NEGATIVES = "synthesize.negative_queries"  # without which nobody is asked at its steps


def prices() -> dict[str, dict[str, float]]:
    """Input, output and cached price in dollars a million tokens, by model."""
    lines = resources.files("pipeline.recipes").joinpath("prices.tsv").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    names = ("input_price", "output_price", "cached_price")
    return {model: dict(zip(names, map(float, numbers), strict=True)) for model, *numbers in rows}


def with_prices(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's plain values with the prices of hosted models whose calls it states no price of."""
    known, costs = prices(), values.get("costs", {})
    if not isinstance(costs, Mapping):
        return values
    costs = dict(costs)
    for step, keys in _ASKED_BY.items():
        if keys[0].startswith(_OF_NEGATIVES) and _at(values, _OF_NEGATIVES) is None:
            continue
        engine = next((found for key in keys if (found := _at(values, key)) is not None), None)
        own = costs.get(step, {})
        if (
            not isinstance(engine, Mapping)
            or not isinstance(own, Mapping)
            or any(key.endswith("_price") for key in own)
        ):
            continue
        address = engine.get("base_url", f"https://{HOST}/v1")
        hosted = isinstance(address, str) and engine.get("engine") == "openai" and _host(address) == HOST
        if hosted and engine.get("model") in known:
            costs[step] = {**own, **known[engine["model"]]}
    return {**values, "costs": costs} if costs else values


def _at(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # whoever reads the option says so
        return None
