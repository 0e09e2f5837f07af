"""Figures of matplotlib within a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Margins, inches: of tick labels, and of the name of the horizontal axis. Laying figures out takes longer than drawing.
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.55, 0.12, 0.5, 0.08


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return the axes of a figure of a size, inches; a page has their titles."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(_LEFT / width, _BOTTOM / height, 1.0 - _RIGHT / width, 1.0 - _TOP / height)
    return figure, figure.subplots()


def inline_svg(figure: Figure) -> str:
    """Return a figure as an SVG element: black becomes the page's text color, the background is the page's."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):  # texts stay texts
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    _, start, rest = text.getvalue().partition("<svg")
    return (start + rest).replace("#000000", "currentColor")
