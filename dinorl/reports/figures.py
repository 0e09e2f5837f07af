"""Figures of matplotlib within a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = 5  # of an axis, at most: they fit a phone, and take most of the time
# Margins, inches: of tick labels, and of the name of the horizontal axis. Laying figures out takes longer than drawing.
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.55, 0.12, 0.5, 0.08


def new_axes(width: float, height: float) -> tuple[FigureCanvasSVG, Axes]:
    """Return the canvas and the axes of a figure of a size, inches; a page has their titles."""
    figure = Figure(figsize=(width, height), facecolor="none")
    figure.subplots_adjust(_LEFT / width, _BOTTOM / height, 1.0 - _RIGHT / width, 1.0 - _TOP / height)
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.locator_params(nbins=_TICKS)
    return FigureCanvasSVG(figure), axes


def inline_svg(canvas: FigureCanvasSVG) -> str:
    """Return a figure as an SVG element in which black is the page's text color."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):  # texts stay texts
        canvas.print_svg(text, metadata={"Date": None})  # type: ignore[no-untyped-call]  # savefig draws twice
    _, start, rest = text.getvalue().partition("<svg")
    return (start + rest).replace("#000000", "currentColor")
