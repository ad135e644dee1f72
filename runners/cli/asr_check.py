"""``hardquery asr-check``: what the speech recogniser of a recipe invents where nobody speaks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runners.cli.errors import PROBLEMS, UsageError, one_line

_LONGEST_S = 600.0  # of a sound that is given

_EPILOG = """\
Silence, noise and music are made on the spot. Exit code 3: something of them would become evidence.

examples:
  hardquery asr-check demo
  hardquery asr-check one-gpu --sound music.mp3 --set extract.asr.model=base
"""


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    text = "feed silence, noise and music to the recipe's speech recogniser, and print what it invents"
    parser = commands.add_parser(
        "asr-check",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name (see hardquery recipes) or a YAML file")
    parser.add_argument(
        "--sound",
        action="append",
        default=[],
        metavar="FILE",
        dest="sounds",
        help="a media file in which nobody speaks, to be heard as well; may be repeated",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.set_defaults(act=_act)


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.config import RecipeError, load_recipe
    from transforms.engines.registry import find_engine
    from transforms.protocols.engine import EngineError
    from transforms.speech.hearing import hear, table
    from transforms.speech.non_speech import non_speech

    with one_line(RecipeError, EngineError):
        extract = load_recipe(arguments.recipe, arguments.settings).extract
        if extract.asr is None:
            raise UsageError(f"recipe {arguments.recipe!r} has no speech recogniser: extract.asr is null")
        options = {name: value for name, value in extract.asr.items() if name != "resources"}
        engine = find_engine("asr", options)
        if hasattr(engine, "check"):
            engine.check()
        sounds = non_speech() | {Path(file).name: _sound_of(file) for file in arguments.sounds}
        found = list(hear(engine, sounds, extract.speech))
    print("\n".join(table(found)))
    return PROBLEMS if any(one.evidence for one in found) else 0


def _sound_of(file: str) -> Any:
    """The sound of a media file as a run hears it, int16 [n] at 16 kHz."""
    import tempfile

    import numpy as np

    from transforms.media.audio import read_windows, write_audio
    from transforms.media.container import MediaError

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "sound.flac"))
        try:
            write_audio(file, path, 0.0, _LONGEST_S)
        except (MediaError, OSError) as error:
            raise UsageError(f"--sound {file!r}: {error}") from error
        return np.concatenate(list(read_windows(path)))
