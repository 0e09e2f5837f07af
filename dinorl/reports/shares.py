"""What a reward is made of, over time: each term's share of an episode's reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.ticker import EngFormatter, PercentFormatter
from numpy.typing import NDArray

from dinorl.reports.figures import new_axes
from dinorl.reports.stages import REWARD, StageRecord

LEAST = 0.01  # terms that never have a larger share are drawn together
OTHER = "others"
_COLORS = [f"#{''.join(f'{round(255 * part):02x}' for part in color)}" for color in colormaps["tab20"].colors]  # type: ignore[attr-defined]
_GRAY = "#9a9a9a"
_WIDTH, _HEIGHT = 4.2, 2.6  # inches

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Shares of a reward's terms.

    Attributes:
        steps: ``(n,)``, environment steps of the evaluations.
        terms: by name ``(n,)``, the term's sum over an episode by the sum of all terms' absolute sums; penalties are
            negative. The mean over runs; a run that has ended keeps its last shares.
    """

    steps: NDArray[np.int64]
    terms: Mapping[str, Floats]


def shares(records: Sequence[StageRecord]) -> Shares | None:
    """Return the shares of runs of one stage; None if none has a reward."""
    curves = [{key: curve for key, curve in record.curves.items() if key.startswith(REWARD)} for record in records]
    curves = [own for own in curves if own]
    if not curves:
        return None
    steps = np.unique(np.concatenate([curve.steps for own in curves for curve in own.values()]))
    names = sorted({key for own in curves for key in own})
    sums = np.asarray([[[own[k].at(s) if k in own else 0.0 for s in steps.tolist()] for k in names] for own in curves])
    total = np.abs(sums).sum(axis=1, keepdims=True)  # NaN before a run's first evaluation
    known = np.isfinite(total) & (total > 0.0)
    each = np.where(known, sums / np.where(known, total, 1.0), np.nan)
    begun = np.isfinite(each).any(axis=(0, 1))
    if not begun.any():
        return None
    mean = np.nanmean(each[:, :, begun], axis=0)
    return Shares(steps[begun], {key.removeprefix(REWARD): row for key, row in zip(names, mean, strict=True)})


def merged(found: Shares) -> Shares:
    """Put the terms that never matter together, as :data:`OTHER`, and sort the rest by size."""
    largest = {name: float(np.abs(values).max(initial=0.0)) for name, values in found.terms.items()}
    kept = sorted((name for name in largest if largest[name] >= LEAST), key=lambda name: -largest[name])
    terms = {name: found.terms[name] for name in kept}
    if rest := [values for name, values in found.terms.items() if name not in kept]:
        terms[OTHER] = np.sum(rest, axis=0)
    return Shares(found.steps, terms)


def colors(records: Sequence[StageRecord]) -> dict[str, str]:
    """Return a color for each reward term of an animal, the same at all stages."""
    names = sorted({key.removeprefix(REWARD) for record in records for key in record.curves if key.startswith(REWARD)})
    return {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(names)} | {OTHER: _GRAY}


def extent(each: Sequence[Shares]) -> tuple[float, float]:
    """Return the lowest and highest point of figures to be compared."""
    sides = [
        [sum((np.clip(sign * part, 0.0, None) for part in one.terms.values()), np.zeros(1)).max() for one in each]
        for sign in (-1.0, 1.0)
    ]
    return -max(sides[0], default=0.0), max(sides[1], default=1.0)


def draw(found: Shares, palette: Mapping[str, str], low: float, high: float) -> FigureCanvasSVG:
    """Return stacked areas of shares over environment steps: rewards above zero, penalties below.

    Args:
        found: to draw.
        palette: color of each term.
        low, high: ends of the vertical axis.
    """
    canvas, axes = new_axes(_WIDTH, _HEIGHT)
    for sign in (1.0, -1.0):
        base = np.zeros(found.steps.size)
        for name, values in found.terms.items():
            part = np.clip(sign * values, 0.0, None)
            if not part.any():
                continue
            if found.steps.size > 1:
                axes.fill_between(found.steps, sign * base, sign * (base + part), color=palette[name], linewidth=0)
            else:
                axes.bar(["one evaluation"], sign * part, bottom=sign * base, color=palette[name])
            base = base + part
    axes.set_ylim(low - 0.02, high + 0.02)
    axes.axhline(0.0, color="#000000", linewidth=0.8)
    axes.margins(x=0.0 if found.steps.size > 1 else 0.5)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if found.steps.size > 1:
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return canvas
