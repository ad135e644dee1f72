"""Completion in shells: the printed script in a real bash, and that it says what the parser knows."""

import shutil
import subprocess

import pytest

from runners.cli.main import main
from runners.cli.parser import Parser
from runners.cli.shells.grammar import grammar
from runners.cli.shells.scripts import SCRIPTS

# Each line of the input is a command line, words parted by tabs, the last one unfinished; bash itself parts at "=".
ASK = r"""
while IFS= read -r line; do
    COMP_WORDS=(); rest="$line"$'\t'
    while [[ -n "$rest" ]]; do COMP_WORDS+=("${rest%%$'\t'*}"); rest="${rest#*$'\t'}"; done
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=(); _hardquery
    echo "${COMPREPLY[*]}"
done
"""
OFFERED = {
    ("ru",): "run",
    ("cache", ""): "stats verify compact prune",
    ("cache", "prune", "--dr"): "--dry-run",
    ("run", ""): "api demo one-gpu rankvideo",
    ("run", "--limit", "5", "r"): "rankvideo",
    ("run", "demo", "-"): None,
    ("run", "demo", "--pro"): "--progress",
    ("run", "demo", "--progress", "p"): "plain",
    ("run", "demo", "--progress", "="): "auto plain json",
    ("run", "demo", "--progress", "=", "j"): "json",
    ("run", "demo", "--progress=j"): "--progress=json",
    ("run", "demo", "--input", ""): "",
    ("run", "demo", ""): "",
    ("plan", "demo", "--quiet", "--input", "run", "--retry-failures", ""): "transient all none",
    ("train", "ra"): "ranking",
    ("train", "ranking", "rel"): "release",
    ("export", "ms"): "ms-swift ms-swift-frames",
    ("engines", "te"): "teacher",
    ("nonsense", ""): "",
    ("completion", "z"): "zsh",
}


@pytest.fixture(scope="module")
def scripts():
    texts = {}
    for shell in SCRIPTS:
        with pytest.MonkeyPatch.context() as patch:
            said = []
            patch.setattr("builtins.print", lambda text, end, said=said: said.append(text))
            assert main(["completion", shell]) == 0
        [texts[shell]] = said
    return texts


@pytest.fixture(scope="module")
def offered(scripts):
    """What bash offers for each line of OFFERED, in one process."""
    lines = "".join("\t".join(("hardquery", *typed)) + "\n" for typed in OFFERED)
    bash = subprocess.run(
        [shutil.which("bash"), "--norc", "-c", scripts["bash"] + ASK],
        input=lines, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert bash.stderr == ""
    return dict(zip(OFFERED, bash.stdout.splitlines(), strict=True))


def test_bash_completes_commands_options_recipes_and_choices(offered):
    assert {typed: words for typed, words in offered.items() if OFFERED[typed] is not None} == {
        typed: words for typed, words in OFFERED.items() if words is not None
    }


def test_every_option_of_a_command_is_offered(offered, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])

    told = capsys.readouterr().out
    options = offered["run", "demo", "-"].split()
    assert {"--input", "--output", "--max-calls", "--dry-run", "-v"} < {*options}
    assert all(option in told for option in options)


def test_zsh_has_the_script_of_bash_and_fish_a_line_an_option(scripts):
    assert scripts["bash"].partition("\n")[2] in scripts["zsh"]
    run = [line for line in scripts["fish"].splitlines() if "'__hardquery_at run'" in line]
    assert any("-l progress -x -a 'auto plain json' -d" in line for line in run)
    assert any("-s i -l input -r -d" in line for line in run)
    assert any(line.endswith(" -a 'api demo one-gpu rankvideo'") for line in run)


def test_what_help_hides_is_not_offered_and_a_quote_in_it_ends_no_word():
    import argparse

    parser = Parser(prog="hardquery")
    parser.add_argument("--old", help=argparse.SUPPRESS)
    parser.add_argument("--it", help="it's 100%% of %(default)s", default="all")

    [command] = grammar(parser, {})

    assert [option.names for option in command.options] == [("-h", "--help"), ("--it",)]
    assert r"-l it -r -d 'it\'s 100% of all'" in SCRIPTS["fish"]([command])
