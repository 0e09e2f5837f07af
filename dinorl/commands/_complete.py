"""Shell completion of words and arguments; Hydra completes overrides.

Hydra installs it (``eval "$(dinorl -sc install=bash)"``, the same for zsh; fish: ``install=fish``). The shell then
calls ``dinorl -sc query=SHELL`` with the line so far in ``COMP_LINE``.
"""

from __future__ import annotations

import os

from dinorl import commands
from dinorl.commands import TRAIN, Parser


def asked(arguments: list[str]) -> bool:
    """Whether a shell asks for completions."""
    flags = {"-sc", "--shell-completion"}
    return bool(flags & set(arguments)) and any(a.startswith("query=") for a in arguments) and "COMP_LINE" in os.environ


def answer(arguments: list[str]) -> int:
    """Print completions of ``COMP_LINE``; return the exit status."""
    typed, current = read_line(os.environ["COMP_LINE"], os.environ.get("COMP_POINT"))
    if not typed:
        print("\n".join(word for word in commands.words() if word.startswith(current)))
    elif typed[0] != TRAIN and commands.is_word(typed[0]):
        if typed[0] in commands.words():
            print("\n".join(candidates(commands.parser(typed[0]), typed[1:], current)))
        return 0
    if typed[:1] == [TRAIN]:
        os.environ["COMP_LINE"] = " ".join(["dinorl", *typed[1:], current])
    return int(commands.load(TRAIN).run(arguments))  # Hydra prints overrides


def read_line(line: str, point: str | None) -> tuple[list[str], str]:
    """Return the complete arguments before the cursor, without the program, and the current one."""
    before = line.encode()[: int(point)].decode(errors="ignore") if point else line
    typed = before.split()
    current = "" if not before or before[-1].isspace() else typed.pop()
    return typed[1:], current


def candidates(parser: Parser, typed: list[str], current: str) -> list[str]:
    """Return completions of ``current`` after the typed arguments."""
    if typed and typed[0] in parser.subcommands:
        return candidates(parser.subcommands[typed[0]], typed[1:], current)
    by_name = {name: (action, values) for action, values in parser.known for name in action.option_strings}
    option = by_name.get(typed[-1]) if typed else None
    if option is not None and option[0].nargs != 0:  # expects a value
        return _matching(option[1]() if option[1] else [], current)
    found = [*by_name, *parser.subcommands]
    for action, values in parser.known:
        if not action.option_strings and values:
            found += values()
    return _matching(found, current)


def _matching(names: list[str], start: str) -> list[str]:
    return sorted(name for name in names if name.startswith(start))
