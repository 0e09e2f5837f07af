"""``dinorl results``: rebuilds the README's table from finished runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser

SUMMARY = "Rebuild the README's table of results from finished runs."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("--sweep", help="only runs of this sweep (default: the newest of all)")
    parser.add_argument("--uri", help="MLflow server (default: the embedded store)")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="default: %(default)s")


def run(options: Namespace) -> int:
    """Collect, write, print; return the exit status."""
    from dinorl.config import ConfigError
    from dinorl.reports import results

    found = results.collect(options.sweep, options.uri)
    if not found:
        raise ConfigError("found no finished run: train first, for example with make results SPECIES=trex SEED=0")
    print(results.rewrite(options.readme, results.rows(found)))
    return 0
