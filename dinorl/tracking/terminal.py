"""Prints lines and tables."""

from __future__ import annotations

from rich.console import Console

_PLAIN_WIDTH = 200  # characters, outside terminals


def console() -> Console:
    """Return a console that wraps lines only in a terminal."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def say(text: str) -> None:
    """Print a line."""
    console().print(text, markup=False)
