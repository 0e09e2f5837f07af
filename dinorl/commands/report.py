"""``dinorl report``: one HTML page of a sweep."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser

SUMMARY = "Write one HTML page of a sweep: table, verdicts, learning curves, reward shares, films."

_NAMED = 3  # runs


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "sweep", nargs="+", help="a sweep's name or folder, or conditions such as species=trex stage=bite"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the sweep's folder")
    parser.add_argument("--films", type=float, metavar="MB", help="size of all films, default 10; 0: none")
    parser.add_argument("--uri", help="MLflow server (default: the embedded store)")
    parser.add_argument("--no-upload", action="store_true", help="do not log the page to the lineages' MLflow runs")


def run(options: Namespace) -> int:
    """Write the page and log it; return the exit status."""
    from dinorl.reports.page import FILMS, Page
    from dinorl.reports.publish import publish

    words = options.sweep
    page = Page(words[0] if len(words) == 1 else shlex.join(words), options.out, options.uri)
    left_out = page.write(FILMS if options.films is None else options.films)
    print(f"wrote {page.path} ({page.path.stat().st_size / 1e6:.1f} MB)")
    for note, names in left_out.items():
        print(f"films, {note}: {', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''} ({len(names)})")
    if not options.no_upload:
        print(publish(page))
    return 0
