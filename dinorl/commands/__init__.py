"""The commands (words) of the command line: one module each, found by its file name.

A module ``some_word.py`` is the word ``some-word``. It has

* ``SUMMARY``: one line for ``dinorl --help``,
* ``add_arguments(parser)``: the word's arguments,
* ``run(options)``: does the work and returns the exit status,
* optionally ``REFUSED``: the exit status after a ConfigError (default 1).

Heavy libraries are imported inside ``run``, so that help and completion stay fast. ``train`` is the default word; its
``run`` receives the raw arguments, for Hydra.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

TRAIN = "train"  # the default word
BUNDLE_HELP = "a checkpoint bundle, a stage's run folder, an MLflow run id or a zoo name (trex/bite)"
MJCF_HELP = "the animal's model, if it is no longer where the bundle's config says"


class Parser(argparse.ArgumentParser):
    """An argument parser that remembers its arguments, for completion.

    Attributes:
        known: arguments with a function that lists their values, or None.
        subcommands: parsers of subcommands by name.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.known: list[tuple[argparse.Action, Callable[[], list[str]] | None]] = []
        self.subcommands: dict[str, Parser] = {}
        super().__init__(*args, **settings)

    def add_argument(
        self, *names: str, values: Callable[[], list[str]] | None = None, **settings: Any
    ) -> argparse.Action:
        """Add an argument as argparse does; ``values`` lists its completions."""
        action = super().add_argument(*names, **settings)
        self.known.append((action, values))
        return action

    def add_subcommand(self, name: str, summary: str) -> Parser:
        """Add a subcommand and return its parser."""
        if not self.subcommands:
            self._below = self.add_subparsers(dest="subcommand")
        self.subcommands[name] = parser = self._below.add_parser(name, help=summary, description=summary)
        return parser

    def read(self, arguments: list[str]) -> argparse.Namespace:
        """Parse arguments; options may be anywhere."""
        return self.parse_args(arguments) if self.subcommands else self.parse_intermixed_args(arguments)


def at_least(least: int) -> Callable[[str], int]:
    """Return an argument type: whole numbers of at least ``least``."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of {least} or more, found {text}")
        return value

    return number


def zoo_names() -> list[str]:
    """Return the names in the zoo, for completion."""
    from dinorl.bundle.locate import zoo

    return list(zoo())


def species_names() -> list[str]:
    """Return the animals' names."""
    from dinorl.config.tree import options

    return options("species")


def words() -> list[str]:
    """Return the words, sorted."""
    files = Path(__file__).parent.glob("[!_]*.py")
    return sorted(path.stem.replace("_", "-") for path in files)


def is_word(argument: str) -> bool:
    """Whether a first argument is a word, not an option, override or dotted key."""
    return bool(argument) and not set("=.") & set(argument) and argument[0] not in "-+~"


def load(word: str) -> ModuleType:
    """Return a word's module."""
    return importlib.import_module(f"{__name__}.{word.replace('-', '_')}")


def parser(word: str) -> Parser:
    """Return a word's argument parser."""
    module = load(word)
    made = Parser(prog=f"dinorl {word}", description=module.SUMMARY)
    module.add_arguments(made)
    return made


def overview() -> str:
    """Return every word with its summary, one a line."""
    lines = [f"  dinorl {word:<13} {load(word).SUMMARY}" for word in words()]
    head = ["dinorl WORD …          (dinorl WORD --help shows its arguments)", *lines]
    return "\n".join([*head, "", "Without a word dinorl trains: dinorl species=trex algo=sac", ""])
