"""The figures of a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dinorl.search.outcome import FINISHED, PASSED, PRUNED, Outcome, Row
from dinorl.search.space import Axis

_COLORS = {PASSED: "#1b7837", FINISHED: "#2166ac", PRUNED: "#b2182b"}
_OTHER = "#888888"
_HEIGHT, _WIDTH = 4.0, 4.5  # inches


def plot_scores(outcome: Outcome, path: Path) -> None:
    """Draw each trial's score over environment steps; a cross marks a pruning."""
    figure, axes = _figure(1)
    for row in reversed(outcome.rows):
        if not row.curve:
            continue
        steps, scores = zip(*row.curve, strict=True)
        color = _COLORS.get(row.outcome, _OTHER)
        best = row is outcome.best
        axes[0].plot(steps, scores, color=color, linewidth=2.5 if best else 1.0, alpha=1.0 if best else 0.6)
        marker = "x" if row.outcome == PRUNED else "o"
        axes[0].plot(steps[-1:], scores[-1:], marker, color=color)
    for name, color in _COLORS.items():
        axes[0].plot([], [], color=color, label=name)
    axes[0].set_xlabel("environment steps")
    axes[0].set_ylabel("score")
    axes[0].legend(loc="best", fontsize="small")
    figure.savefig(path)


def plot_keys(outcome: Outcome, keys: Sequence[Axis], path: Path) -> None:
    """Draw the score, where all trials can be compared, against each key."""
    figure, axes = _figure(len(keys))
    for axis, key in zip(axes, keys, strict=True):
        for name in (*_COLORS, ""):
            rows = [row for row in outcome.rows if row.curve and _kind(row) == name]
            values = [key.number(row.trial.values[key.key]) for row in rows]
            scores = [next(score for steps, score in row.curve if steps >= outcome.common) for row in rows]
            axis.plot(values, scores, "o", color=_COLORS.get(name, _OTHER), alpha=0.8, label=name or "other")
        if key.log:
            axis.set_xscale("log")
        if not key.numeric:
            axis.set_xticks(range(len(key.choices)), key.choices)
        axis.set_xlabel(key.key)
    axes[0].set_ylabel(f"score at {outcome.common:,} steps")
    axes[0].legend(loc="best", fontsize="small")
    figure.savefig(path)


def plot_schedules(outcome: Outcome, keys: Sequence[Axis], path: Path) -> None:
    """Draw the values that each policy of a population was trained with, over environment steps."""
    figure, axes = _figure(len(keys), sharey=False)
    for axis, key in zip(axes, keys, strict=True):
        for row in reversed(outcome.rows):
            steps = [change.steps for change in row.schedule]
            values = [key.number(change.values[key.key]) for change in row.schedule]
            best = row is outcome.best
            axis.step(
                [*steps, max(row.steps, steps[-1])], [*values, values[-1]], where="post",
                color=_COLORS.get(row.outcome, _OTHER), linewidth=2.5 if best else 1.0, alpha=1.0 if best else 0.6,
            )  # fmt: skip
        if key.log:
            axis.set_yscale("log")
        if not key.numeric:
            axis.set_yticks(range(len(key.choices)), key.choices)
        axis.set_xlabel("environment steps")
        axis.set_ylabel(key.key)
    figure.savefig(path)


def _figure(number: int, sharey: bool = True) -> tuple[Figure, list]:  # type: ignore[type-arg]  # matplotlib's axes
    figure = Figure(figsize=(max(1.6, number) * _WIDTH, _HEIGHT), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, number, squeeze=False, sharey=sharey)[0])


def _kind(row: Row) -> str:
    return row.outcome if row.outcome in _COLORS else ""
