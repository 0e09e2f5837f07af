"""``dinorl compare``: compares groups of runs and says whether one is better."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser

SUMMARY = "Compare groups of finished runs: algorithms, values, sweeps or commits; name a winner only if there is one."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUNS",
        help="a sweep's name or folder, or 'species=trex stage=bite'; without --by each is a group",
    )  # fmt: skip
    parser.add_argument("--by", metavar="KEY", values=_keys, help="group by a tag or parameter, such as algo")
    parser.add_argument(
        "--metric", metavar="NAME", values=_metrics,
        help="of an evaluation, or gate_steps; default: fall_rate, forward_speed_mean_mps or success_rate, by stage",
    )  # fmt: skip
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table", help="default %(default)s")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the learning curves with bands")
    parser.add_argument("--uri", help="MLflow server (default: the embedded store)")


def run(options: Namespace) -> int:
    """Read, compare, print; return the exit status."""
    from dinorl.files.run_folder import as_json
    from dinorl.reports import comparison
    from dinorl.tracking.terminal import console
    from dinorl.verdicts.compared import compare_selections

    figure = options.figure is not None
    compared, curves = compare_selections(options.runs, options.by, options.metric, figure, options.uri)
    if options.format == "json":
        print(as_json(compared.to_json(), indent=2))
    elif options.format == "markdown":
        print(comparison.as_markdown(compared))
    else:
        console().print(comparison.for_terminal(compared))
    if figure:
        comparison.plot(compared, curves, options.figure)
        print(f"wrote {options.figure}", file=sys.stderr)
    return 0


def _keys() -> list[str]:
    from dinorl.verdicts.selection import TAGS

    return list(TAGS)


def _metrics() -> list[str]:
    from dinorl.verdicts.comparison import directed_metrics

    return list(directed_metrics())
