"""Lines and tables for the person at the terminal."""

from __future__ import annotations

from rich.console import Console

_PLAIN_WIDTH = 200  # without a terminal there is no width to keep to


def console() -> Console:
    """Return a console that wraps in a terminal and not in a file."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def say(text: str) -> None:
    """Print a line for the person."""
    console().print(text, markup=False)
