"""``dinorl evaluate``: metrics of a policy and both null policies."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

from dinorl.commands import BUNDLE_HELP, MJCF_HELP, Parser, at_least, zoo_names
from dinorl.reports import EPISODES, SEED

SUMMARY = "Measure a trained policy on unseen episodes, beside doing nothing and acting at random."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help=BUNDLE_HELP, values=zoo_names)
    parser.add_argument("overrides", nargs="*", metavar="env.KEY=VALUE", help="evaluate under other conditions")
    parser.add_argument("--episodes", type=at_least(1), default=EPISODES, help="default %(default)s")
    parser.add_argument("--seed", type=at_least(0), default=SEED, help="of the first episode, default %(default)s")
    parser.add_argument("--mjcf", type=Path, metavar="FILE", help=MJCF_HELP)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")


def run(options: Namespace) -> int:
    """Evaluate a bundle; return the exit status."""
    from dinorl.bundle.bundle import Bundle
    from dinorl.reports.evaluation import evaluate, table
    from dinorl.tracking.terminal import console

    bundle = Bundle.open(options.bundle, options.mjcf)
    if why := bundle.outdated():
        print(f"{why}; these are today's", file=sys.stderr)
    report = evaluate(bundle, options.episodes, options.seed, options.overrides)
    console().print(table(report))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {options.json}")
    return 0
