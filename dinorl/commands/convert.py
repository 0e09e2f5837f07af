"""``dinorl convert``: turns a folder of TOML stage files into a recipe."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser

SUMMARY = "Turn a folder of TOML stage files into a recipe."
REFUSED = 2


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, help="holds <species>/stage<n>_<name>.toml")
    parser.add_argument("--name", default="toml", help="of the recipe: recipe=NAME (default %(default)s)")
    parser.add_argument("--out", type=Path, help="recipes' folder (default: conf/recipe)")


def run(options: Namespace) -> int:
    """Convert a folder and print a summary; return the exit status."""
    from dinorl.config.convert import convert, write_recipe
    from dinorl.config.tree import conf_dir

    converted = convert(options.folder)
    for line in write_recipe(converted, options.out or conf_dir() / "recipe", options.name):
        print(line)
    print(f"use it with recipe={options.name}")
    if any(one.gpu for one in converted):
        print(f"and its [jax] tables with recipe={options.name} experiment=gpu")
    return 0
