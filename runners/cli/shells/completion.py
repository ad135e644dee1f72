"""``hardquery completion``: a script by which a shell completes commands, options and names."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from runners.cli.errors import sentence
from runners.cli.shells.grammar import Words, grammar
from runners.cli.shells.scripts import SCRIPTS

_EPILOG = """\
In the start file of the shell, which then needs no Python to complete:
  bash  eval "$(hardquery completion bash)"
  zsh   eval "$(hardquery completion zsh)"
  fish  hardquery completion fish | source
Names of plug-ins are those that were installed when the script was printed.
"""


def add_command(commands: Any, program: argparse.ArgumentParser) -> None:
    """The command, which completes all that ``program`` has when it is called."""
    text = "print a script by which a shell completes commands, options, recipes and other names"
    parser = commands.add_parser(
        "completion",
        help=text,
        description=sentence(text),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=tuple(SCRIPTS))
    parser.set_defaults(act=partial(_act, program))


def _act(program: argparse.ArgumentParser, arguments: argparse.Namespace, _: list[str]) -> int:
    print(SCRIPTS[arguments.shell](grammar(program, _known())), end="")
    return 0


def _known() -> Words:
    from pipeline.outputs.export.formats import exports
    from pipeline.recipes.files import recipe_names
    from trainer.config.config import preset_names
    from transforms.engines.registry import ENGINES

    return {
        "RECIPE": tuple(recipe_names()),
        "MODALITY": tuple(ENGINES),
        "FORMAT": (*exports(), "parquet"),
        "CONFIG": (*preset_names(), *preset_names("trainer.retriever.presets")),
    }
