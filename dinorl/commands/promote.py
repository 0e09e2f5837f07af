"""``dinorl promote RUN``: writes what a run was trained with into the recipe, if it is better."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser

SUMMARY = "Write a run's winning values into its recipe, with the reason as a comment."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", help="an MLflow run id, a stage's run folder, a selection such as 'species=trex stage=bite "
        "ppo.gamma=0.98', or a search's folder or name: its best trial",
    )  # fmt: skip
    parser.add_argument("--keys", help="only these values, with commas (default: all that differ from the recipe)")
    parser.add_argument("--metric", help="that must be better (default: what the stage is for)")
    parser.add_argument("--recipe", help="default: the run's")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of configs of your own")
    parser.add_argument("--yes", action="store_true", help="write without asking")
    parser.add_argument("--force", action="store_true", help="write without a verdict; the comment says so")
    parser.add_argument("--uri", help="MLflow server (default: the embedded store)")


def run(options: Namespace) -> int:
    """Show the diff and the verdict, ask and write; return the exit status."""
    from dinorl.tracking.terminal import console, say
    from dinorl.verdicts.promotion import promotion
    from dinorl.verdicts.winner import Request

    keys = tuple(key.strip() for key in (options.keys or "").split(",") if key.strip())
    searchpath = (options.config_dir.absolute(),) if options.config_dir else ()
    found = promotion(Request(options.run, keys, options.metric, options.recipe, searchpath, options.uri))
    _print_diff([line for edit in found.edits for line in edit.diff()])
    for line in filter(None, (found.summary, *(f"note: {note}" for note in found.notes))):
        say(line)
    if found.refusal and not options.force:
        print(f"dinorl promote: {found.refusal}\nTo write it without a verdict, type --force", file=sys.stderr)
        return 1
    asks = sys.stdin.isatty() and console().is_terminal
    if not options.yes and not (asks and input("Write it? [y/N] ").strip().lower() in ("y", "yes")):
        say("nothing was written" + ("" if asks else "; type --yes to write it"))
        return 0
    found.write()
    for edit in found.edits:
        say(f"wrote {edit.path}")
    say(f"next: dinorl regress species={found.task.recipe.species} algo={found.task.recipe.algo}")
    return 0


def _print_diff(lines: list[str]) -> None:
    from rich.text import Text

    from dinorl.tracking.terminal import console

    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        style = "bold" if line.startswith(("+++", "---")) else styles.get(line[:1], "")
        console().print(Text(line, style), soft_wrap=True)
