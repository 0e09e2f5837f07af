"""``dinorl play``: shows a policy in the viewer, or as a film without a screen."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from dinorl.commands import BUNDLE_HELP, MJCF_HELP, Parser, zoo_names

SUMMARY = "Watch a trained policy, in a viewer or as a film."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help=BUNDLE_HELP, values=zoo_names)
    parser.add_argument("--video", type=Path, help="write a film (.mp4, .gif) instead of opening the viewer")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the film, s (default %(default)g)")
    parser.add_argument("--seed", type=int, help="of the episode (default: the first evaluation seed)")
    parser.add_argument("--mjcf", type=Path, metavar="FILE", help=MJCF_HELP)


def run(options: Namespace) -> int:
    """Play a bundle's policy; return the exit status."""
    from dinorl.bundle.bundle import Bundle

    bundle = Bundle.open(options.bundle, options.mjcf)
    if why := bundle.outdated():
        print(why)
    if options.video is None and os.environ.get("DISPLAY"):
        from dinorl.bundle.viewer import view

        view(bundle, options.seed)
        return 0
    from dinorl.bundle.film import film

    print(f"wrote {film(bundle, options.video or Path('play.mp4'), options.seconds, options.seed)}")
    return 0
