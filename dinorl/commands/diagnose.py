"""``dinorl diagnose``: which symptoms of the playbook a run has, why, and what to type."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser, at_least, zoo_names

SUMMARY = "Say what went wrong in a stage run, why, and which overrides to try."
LAST = 20


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", nargs="+", metavar="RUN", values=zoo_names,
        help="a run folder or one above, an MLflow run id, a zoo name, or a selection such as species=trex stage=bite",
    )  # fmt: skip
    parser.add_argument(
        "--last", type=at_least(1), default=LAST, help="of a selection only the newest so many, default %(default)s"
    )
    parser.add_argument("--playbook", type=Path, metavar="FILE", help="default: conf/playbook.yaml")
    parser.add_argument("--uri", help="MLflow server (default: the embedded store)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default %(default)s")


def run(options: Namespace) -> int:
    """Diagnose and print; return the exit status."""
    from dinorl.files.run_folder import as_json
    from dinorl.reports import diagnosis as report
    from dinorl.tracking.terminal import console
    from dinorl.verdicts.diagnosis import diagnose, histories
    from dinorl.verdicts.playbook import load

    playbook = load(options.playbook)
    found = diagnose(histories(" ".join(options.run), options.uri, options.last), playbook)
    if options.format == "json":
        print(as_json([report.as_data(one) for one in found], indent=2))
        return 0
    screen = console()
    screen.print(report.table(found))
    for one in found:
        for line in report.lines(one):
            screen.print(line, markup=False, soft_wrap=True)  # commands stay in one line
    return 0
