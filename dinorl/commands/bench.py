"""``dinorl bench``: steps per second, compared with other ways to simulate the animal."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser, species_names

SUMMARY = "Measure how fast dinorl is on this machine."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("--species", help="one, or several with commas (default: all)", values=species_names)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--quick", action="store_true", help="rough numbers in a fraction of the time")


def run(options: Namespace) -> int:
    """Measure, print the table, write the JSON; return the exit status."""
    from rich.console import Console

    from dinorl.benchmarks.report import measure, table

    console = Console()
    results = {
        species: measure(species, options.quick, lambda text: console.print(text, style="dim"))
        for species in (options.species.split(",") if options.species else species_names())
    }
    console.print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        console.print(f"wrote {options.json}")
    return 0
