"""Scripts by which shells complete what is typed; they start no Python."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from runners.cli.shells.grammar import Command

# Keys of _hardquery_words: " cache prune" has the options of a command, " run --progress" the values of an option that
# takes one, and " run #0" the words of the first argument. Where it says nothing, files are completed.
_BASH = r"""
_hardquery() {
    local cur="${COMP_WORDS[COMP_CWORD]}" at="" option="" place=0 word="" key="" before="" REPLY="" i=0
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        if [[ "$word" == "=" ]]; then
            continue  # bash parts --option=value
        elif [[ -n "$option" ]]; then
            option=""
        elif [[ "$word" == -* ]]; then
            if _hardquery_words "$at $word"; then option="$word"; fi
        elif _hardquery_words "$at $word"; then
            at="$at $word"
        else
            place=$((place + 1))
        fi
    done
    if [[ "$cur" == "=" ]]; then
        cur=""
    elif [[ "$cur" == --*=* ]]; then  # zsh does not
        option="${cur%%=*}" before="${cur%%=*}=" cur="${cur#*=}"
    fi
    if [[ -n "$option" ]]; then
        key="$at $option"
    elif [[ "$cur" == -* ]]; then
        key="$at"
    else
        key="$at #$place"
    fi
    _hardquery_words "$key" || REPLY=""
    COMPREPLY=($(compgen -P "$before" -W "$REPLY" -- "$cur"))
}
complete -o bashdefault -o default -F _hardquery hardquery
"""

_FISH = r"""
function __hardquery_at
    set -l typed (commandline -opc) ''
    set -l last (math 1 + (count $argv))
    test $last -eq 1; or test (count $typed) -gt $last -a "$typed[2..$last]" = "$argv"
end
function __hardquery_begins
    test (count (commandline -opc)) -eq (math 1 + (count $argv)); and __hardquery_at $argv
end
"""


def bash(commands: Sequence[Command]) -> str:
    """A script for bash 3.2 and later."""
    cases = "".join(
        f"        {shlex.quote(key)}) REPLY={shlex.quote(' '.join(words))} ;;\n" for key, words in _keys(commands)
    )
    known = f'_hardquery_words() {{\n    case "$1" in\n{cases}        *) return 1 ;;\n    esac\n}}'
    return f'# eval "$(hardquery completion bash)"\n{known}{_BASH}'


def zsh(commands: Sequence[Command]) -> str:
    """A script for zsh, by way of what it has for scripts of bash."""
    ready = (
        "(( $+functions[compdef] )) || { autoload -U compinit && compinit }\nautoload -U bashcompinit && bashcompinit"
    )
    return f'# eval "$(hardquery completion zsh)"\n{ready}\n{bash(commands).partition(chr(10))[2]}'


def fish(commands: Sequence[Command]) -> str:
    """A script for fish: with what each word means, and the words of all arguments of a command at each of them."""
    lines = [f"# hardquery completion fish | source{_FISH}".rstrip()]
    for command in commands:
        path = shlex.join(command.path)
        below = [each for each in commands if each.path[:-1] == command.path and each.path]
        when = shlex.quote(f"__hardquery_{'begins' if below else 'at'} {path}".rstrip())
        start = f"complete -c hardquery -n {when}"
        for each in below:
            lines.append(f"{start} -f -a {each.path[-1]} -d {_quoted(each.help)}")
        if not below:
            lines += [f"{start} -a {_quoted(' '.join(words))}" for words in command.places if words]
        for option in command.options:
            spelt = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = (
                (f" -x -a {_quoted(' '.join(option.words))}" if option.words else " -r") if option.takes_value else ""
            )
            lines.append(f"{start} {spelt}{value} -d {_quoted(option.help)}")
    return "\n".join(lines) + "\n"


SCRIPTS: Mapping[str, Callable[[Sequence[Command]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _keys(commands: Sequence[Command]) -> Iterator[tuple[str, list[str]]]:
    for command in commands:
        at = "".join(f" {word}" for word in command.path)
        yield at, [name for option in command.options for name in option.names]
        yield from ((f"{at} #{place}", list(words)) for place, words in enumerate(command.places) if words)
        for option in command.options:
            if option.takes_value:
                yield from ((f"{at} {name}", list(option.words)) for name in option.names)


def _quoted(text: str) -> str:
    """A word of fish, in whose single quotes a backslash escapes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
