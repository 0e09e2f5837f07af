"""The figure of learning curves: interquartile mean and bootstrap interval over environment steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from numpy.typing import NDArray

from dinorl.verdicts import statistics
from dinorl.verdicts.records import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#e08214", "#35978f", "#c51b7d", "#666666")
POINTS = 100  # common steps of a group's runs
_SIZE = (6.4, 4.0)  # inches
HELD = "a run that ends early (dot) keeps its last value"


def plot_curves(
    groups: Mapping[str, Sequence[Curve]], where: Path | Axes, title: str = "", ylabel: str = "", share: bool = False
) -> None:
    """Draw each group's curves as one line with a band.

    Runs are interpolated onto common steps, from the first step that all of a group have to the last of any. A run
    that passed its gate early keeps its last value, as its policy does; a dot marks its end.

    Args:
        groups: curves by label; groups without any are left out.
        where: an image file, or axes to draw into.
        title: of the axes.
        ylabel: the metric with its unit.
        share: values are shares, drawn from 0 to 1.
    """
    if isinstance(where, Path):
        figure = Figure(figsize=_SIZE, layout="constrained", dpi=110)
        FigureCanvasAgg(figure)
        plot_curves(groups, figure.subplots(), title, ylabel, share)
        figure.savefig(where)
        return
    for number, (label, curves) in enumerate(groups.items()):
        if curves:
            _draw(where, f"{label} ({len(curves)})", curves, COLORS[number % len(COLORS)])
    where.set_xlabel(f"environment steps; {HELD}")
    where.xaxis.set_major_formatter(EngFormatter(sep=""))  # 2.5M
    where.set_ylabel(ylabel)
    where.set_title(title)
    if share:
        where.set_ylim(-0.03, 1.03)
        where.yaxis.set_major_formatter(PercentFormatter(1.0))
    if any(groups.values()):
        where.legend(loc="best", fontsize="small")


def common_steps(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return common steps, ``(m,)``, and the curves' values there, ``(n, m)``; after its end a curve is constant."""
    first = max(curve.steps[0] for curve in curves)
    last = max(curve.steps[-1] for curve in curves)
    steps = np.linspace(first, last, POINTS) if last > first else np.array([last], np.float64)
    return steps, np.array([np.interp(steps, curve.steps, curve.values) for curve in curves])


def _draw(axes: Axes, label: str, curves: Sequence[Curve], color: str) -> None:
    steps, values = common_steps(curves)
    mean, low, high = statistics.band(values)
    axes.plot(steps, mean, color=color, label=label)
    if len(curves) > 1:
        axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    ends = [curve.steps[-1] for curve in curves if curve.steps[-1] < steps[-1]] + [steps[-1]]
    axes.plot(ends, np.interp(ends, steps, mean), "o", color=color, markersize=4)
