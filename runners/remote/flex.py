"""A Flex Template of Dataflow: its parameters are the keys of a recipe, and its launcher gives them to ``run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pipeline.config import Recipe

_DOT = "__"  # in place of that of a recipe's key: parameters are words
_PLAIN: dict[Any, str] = {
    msgspec.inspect.IntType: r"-?\d+",
    msgspec.inspect.FloatType: r"-?\d+(\.\d+)?([eE]-?\d+)?",
    msgspec.inspect.BoolType: "true|false",
    msgspec.inspect.StrType: ".*",
}
_PLACES = {
    "recipe": ("A recipe", "The name of one, such as rankvideo; see hardquery recipes.", r"[\w./:-]+"),
    "input": ("Input", "A folder, a pattern or a manifest of videos in Cloud Storage.", r"gs://.+"),
    "output": ("Output", "The folder in Cloud Storage where the training set goes.", r"gs://.+"),
    "cache": ("Cache", "The folder in Cloud Storage that keeps all results for later runs.", r"gs://.+"),
}


def specification(image: str) -> dict[str, Any]:
    """The file that a Flex Template is, for a launcher of this image."""
    parameters: list[dict[str, Any]] = [
        {"name": name, "label": label, "helpText": text, "regexes": [f"^{regex}$"]}
        for name, (label, text, regex) in _PLACES.items()
    ]
    parameters += [
        {
            "name": key.replace(".", _DOT),
            "label": key,
            "helpText": f"Replaces {key} of the recipe.",
            "isOptional": True,
            "regexes": [f"^({regex})$"],
        }
        for key, regex in _keys()
    ]
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": {
            "name": "hardquery",
            "description": "Videos in, training data for a video reranker out. `hardquery finish OUTPUT` publishes it.",
            "parameters": parameters,
        },
    }


def command_of(options: Sequence[str]) -> list[str]:
    """The command line of ``run`` for the options that a launcher gives: parameters, and options of Beam."""
    given: dict[str, str] = {}
    beams: list[str] = []
    keys = {key for key, _ in _keys()}
    settings: list[str] = []
    for option in options:
        name, _, value = option.removeprefix("--").partition("=")
        if name in _PLACES:
            given[name] = value
        elif name.replace(_DOT, ".") in keys:
            settings += ["--set", f"{name.replace(_DOT, '.')}={value}"]
        else:
            beams.append(option)
    places = [f"--{name}={value}" for name, value in given.items() if name != "recipe"]
    return ["run", given.get("recipe", ""), *places, *settings, "--", "--runner=DataflowRunner", *beams]


def launch(options: Sequence[str]) -> int:
    """Build the graph and hand it over; returns the exit code of ``run``."""
    from runners.cli.main import main

    return main(command_of(options))


def _keys() -> Iterator[tuple[str, str]]:
    """Every key of a recipe with a plain value, with what the value must look like."""
    yield from _plain(msgspec.inspect.type_info(Recipe), "")


def _plain(info: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(info, msgspec.inspect.UnionType):
        others = [each for each in info.types if not isinstance(each, msgspec.inspect.NoneType)]
        plain = [each for each in others if type(each) in _PLAIN]  # a number, say, in whose place a section may stand
        if len(others) == 1 or len(plain) == 1:
            yield from _plain((plain or others)[0], key)
    elif isinstance(info, msgspec.inspect.StructType):
        for field in info.fields:
            yield from _plain(field.type, f"{key}.{field.encode_name}".lstrip("."))
    elif isinstance(info, msgspec.inspect.LiteralType):
        yield key, "|".join(map(str, info.values))
    elif type(info) in _PLAIN and key not in ("name", "description"):
        yield key, _PLAIN[type(info)]


def _main(arguments: Sequence[str]) -> None:
    (image,) = arguments
    spec: Mapping[str, Any] = specification(image)
    print(json.dumps(spec, indent=1))


if __name__ == "__main__":
    _main(sys.argv[1:])
