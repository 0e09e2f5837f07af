"""Figures of matplotlib within a page."""

from __future__ import annotations

import io

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 100


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size, inches."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def inline_svg(figure: Figure) -> Markup:
    """Return a figure as an SVG element: black becomes the page's text color, the background is the page's."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):  # texts stay texts
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    _, start, rest = text.getvalue().partition("<svg")
    return Markup((start + rest).replace("#000000", "currentColor"))
