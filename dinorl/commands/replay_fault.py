"""``dinorl replay-fault``: replays an unstable simulation, physics step by physics step."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser

SUMMARY = "Show how a simulation broke down, physics step by physics step."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", type=Path, help="of a run's faults/ folder")


def run(options: Namespace) -> int:
    """Replay a fault and print each physics step; return the exit status."""
    from dinorl.training.faults import replay

    for k, step in enumerate(replay(options.file)):
        when = f"physics step {k}" if k else "as it began"
        print(
            f"{when}: fastest {step.fastest} {step.velocity:.3g}, most accelerated {step.most_accelerated} "
            f"{step.acceleration:.3g}{', BROKEN' if step.broken else ''}"
        )
    return 0
