"""``dinorl zoo``: lists dinorl's trained policies, adds and remeasures them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser, zoo_names

SUMMARY = "List the policies that come with dinorl, add one, or measure one again."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_subcommand("list", "Show each policy and what was measured.")
    add = parser.add_subcommand("add", "Measure a run's best policy and add it.")
    add.add_argument("run", type=Path, help="the stage's run folder")
    measure = parser.add_subcommand("measure", "Measure policies again and update their cards.")
    measure.add_argument("names", nargs="+", metavar="NAME", help="such as trex/bite", values=zoo_names)


def run(options: Namespace) -> int:
    """List the zoo or change it; return the exit status."""
    from dinorl.bundle.bundle import Bundle
    from dinorl.reports import zoo
    from dinorl.tracking.terminal import console

    if options.subcommand in (None, "list"):
        console().print(zoo.table())
    elif options.subcommand == "add":
        print(f"wrote {zoo.add(Bundle.open(options.run))}")
    else:
        for name in options.names:
            zoo.measure(name)
            print(f"measured {name}")
    return 0
