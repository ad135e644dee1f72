"""``hardquery recipes`` and ``hardquery init``: the named configurations, and one of one's own."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from runners.cli.errors import UsageError, one_line, sentence

_BASES = {
    "api": "one API key, no GPU",
    "one-gpu": "one GPU: a vision-language model and a small teacher, which you serve",
    "rankvideo": "the paper's engines: two servers of 30B models, whisper and easyocr",
    "demo": "nothing but this machine: for trying out, not for training",
}


def add_commands(commands: Any) -> None:
    """The commands, with their options."""
    recipes = commands.add_parser("recipes", help="list the recipes, print one, or all that one may say")
    recipes.add_argument("recipe", nargs="?", metavar="RECIPE", help="a recipe's name or a YAML file")
    recipes.add_argument("--full", action="store_true", help="every key of RECIPE: value, unit, a sentence, default")
    recipes.add_argument("--schema", action="store_true", help="the JSON schema of a recipe file, for editors")
    recipes.set_defaults(act=_recipes)

    text = "write a recipe of your own: asks a few questions, or takes the answers as options"
    init = commands.add_parser("init", help=text, description=sentence(text), allow_abbrev=False)
    init.add_argument("-o", "--output", default="recipe.yaml", metavar="FILE", help="(default: %(default)s)")
    init.add_argument(
        "-i", "--input", metavar="PATH", help="where the videos are; it is only named in what is said next"
    )
    init.add_argument("--extends", choices=tuple(_BASES), help="which engines: those of this recipe")
    init.add_argument("--languages", metavar="CODES", help="of the queries, such as en or en,de (ISO 639)")
    init.add_argument("--base-url", metavar="URL", help="the server of captioner and teacher, OpenAI-compatible")
    init.add_argument("--model", metavar="NAME", help="the model of captioner and teacher there")
    init.add_argument("--yes", action="store_true", help="ask nothing; what no option says stays as it is")
    init.set_defaults(act=_init)


def _recipes(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.config import RecipeError, load_recipe, recipe_names, recipe_text
    from pipeline.recipes.reference import editor_schema, full_text

    with one_line(RecipeError):
        if arguments.schema:
            import msgspec

            print(msgspec.json.format(msgspec.json.encode(editor_schema()), indent=1).decode())
        elif arguments.recipe and arguments.full:
            print(full_text(load_recipe(arguments.recipe)), end="")
        elif arguments.recipe:
            print(recipe_text(arguments.recipe), end="")
        elif arguments.full:
            raise UsageError("--full is of one recipe: hardquery recipes NAME --full")
        else:
            for name in recipe_names():
                print(f"{name:<12} {load_recipe(name).description}")
            print(
                "\n`hardquery recipes NAME` prints one, with --full every key that it may have; `hardquery init` "
                "writes one of your own, and --set changes a value for one run."
            )
    return 0


def _init(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.config import RecipeError, load_recipe

    path = Path(arguments.output)
    if path.exists():
        raise UsageError(f"{arguments.output!r} is there already; name another with --output")
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output {arguments.output!r}: a recipe's file ends in .yaml")
    ask = _silent if arguments.yes or not sys.stdin.isatty() else _ask
    videos = arguments.input or ask("Where are the videos? A folder, a glob or a manifest", "videos")
    for name, what in _BASES.items():
        if ask is _ask and not arguments.extends:
            print(f"  {name:<10} {what}")
    base = arguments.extends or ask("Which engines?", "api")
    if base not in _BASES:
        raise UsageError(f"{base!r} is none of {', '.join(_BASES)}")
    languages = arguments.languages or ask("Languages of the queries (ISO 639, with commas)", "en")
    served = base != "demo"
    url = arguments.base_url or (ask("Address of the server (empty: the recipe's)", "") if served else "")
    model = arguments.model or (ask("Model there (empty: the recipe's)", "") if served else "")
    text = recipe_of(base, languages.replace(" ", "").split(","), url, model)
    path.write_text(text, "utf-8")
    with one_line(RecipeError):
        load_recipe(str(path))
    job = f"{shlex.quote(arguments.output)} --input {shlex.quote(videos)} --output out/{path.stem}"
    print(f"wrote {arguments.output}; next, for five videos of them:")
    print(f"  hardquery plan {job} --limit 5\n  hardquery run {job} --limit 5")
    return 0


def recipe_of(base: str, languages: list[str], base_url: str, model: str) -> str:
    """The text of a recipe that extends another, with what is most often changed next as comments."""
    import msgspec

    def quoted(value: object) -> str:
        return msgspec.json.encode(value).decode()  # which is YAML

    asked = [f"{key}: {quoted(value)}" for key, value in (("base_url", base_url), ("model", model)) if value]
    served = f"{{{', '.join(asked)}}}" if asked else ""
    key = (
        ""
        if base == "demo"
        else "# The key is read from the environment variable OPENAI_API_KEY (api_key_env names another).\n"
    )
    caption = f"extract:\n  caption: {served}\n" if served else ""
    writer = f"  teacher: {served}\n" if served else ""
    judge = f"judge:\n  teacher: {served}\n" if served else "# judge:\n"
    return f"""\
# What is not said here is as in the recipe {base}: `hardquery recipes {base}`. All that may be said, with defaults and
# units: `hardquery recipes {base} --full`. Editors complete this file with `hardquery recipes --schema`.
{key}extends: {base}
name: mine
description: my videos, with the engines of {base}
{caption}synthesize:
{writer}  filters: {{languages: {quoted(languages)}}}  # queries in other languages are dropped
#   queries_per_variant: 2  # how many queries each of up to five prompts a video asks for
# mine:
#   candidates: 20  # the most videos that are judged for a query: most of what a run costs
{judge}#   modalities: [caption, asr, ocr, metadata]  # what the judge sees
# curate:
#   alpha1: -6.0  # nats; a no that is less sure is no trusted negative
# emit:
#   validation_fraction: 0.1
# costs:
#   judge: {{input_price: 0.4, output_price: 1.6}}  # dollars a million tokens, for plan and --max-cost
"""


def _ask(question: str, default: str) -> str:
    told = input(f"{question}{f' [{default}]' if default else ''}: ").strip()
    return told or default


def _silent(_: str, default: str) -> str:
    return default
