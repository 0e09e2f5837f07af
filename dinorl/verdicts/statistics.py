"""Statistics of few runs (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice").

Scores come as strata: an array of scores a task (a species at a stage), one score a run. Intervals are percentile
intervals of a bootstrap that draws runs again within each task. The same scores in any order give the same numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
REPETITIONS = 10_000
SEED = 0  # of the bootstrap
TRIM = 0.25  # at each end
Z = 1.959964  # quantile of the normal distribution at (1 + CONFIDENCE) / 2
MOST_SEEDS = 50

Floats = NDArray[np.float64]
Strata = Sequence[ArrayLike]


@dataclass(frozen=True)
class Interval:
    """A confidence interval, ends included."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether both have a point in common."""
        return self.low <= other.high and other.low <= self.high


def interquartile_mean(scores: ArrayLike) -> Floats:
    """Return the mean without the lowest and highest quarter (rounded down) along the last axis."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    cut = int(TRIM * ordered.shape[-1])
    mean: Floats = ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)
    return mean


def interval(strata: Strata) -> Interval | None:
    """Return the interval of the interquartile mean over all runs and tasks; None if a task has fewer than 2 runs."""
    if _few(strata):
        return None
    return _percentiles(interquartile_mean(_resampled(strata, np.random.default_rng(SEED))))


def difference_interval(one: Strata, other: Strata) -> Interval | None:
    """Return the interval of one interquartile mean less the other; None if a task has fewer than 2 runs."""
    if _few(one) or _few(other):
        return None
    draws = np.random.default_rng(SEED)
    first = interquartile_mean(_resampled(one, draws))
    return _percentiles(first - interquartile_mean(_resampled(other, draws)))


def improvement(one: Strata, other: Strata) -> float:
    """Return the probability that a run of ``one`` scores higher than a run of ``other``, the tasks' mean.

    A tie counts half (Mann-Whitney's U over the number of pairs). Both have the same tasks in the same order.
    """
    return float(np.mean([_wins(x, y).mean() for x, y in zip(one, other, strict=True)]))


def improvement_interval(one: Strata, other: Strata) -> Interval | None:
    """Return the interval of :func:`improvement`; None if a task has fewer than 2 runs."""
    if _few(one) or _few(other):
        return None
    draws = np.random.default_rng(SEED)
    means = [
        np.einsum("ri,ij,rj->r", _shares(len(wins), draws), wins, _shares(wins.shape[1], draws), optimize=True)
        for wins in (_wins(x, y) for x, y in zip(one, other, strict=True))
    ]
    return _percentiles(np.mean(means, axis=0))


def chance(one: ArrayLike, other: ArrayLike) -> float:
    """Return how often runs that are dealt to both groups at random differ at least as much (permutation test).

    The difference is that of the interquartile means, without its sign. Every deal counts if there are no more than
    :data:`REPETITIONS`, else so many random ones.
    """
    x, y = np.sort(np.asarray(one, np.float64)), np.sort(np.asarray(other, np.float64))
    pooled, size = np.concatenate([x, y]), len(x) + len(y)
    if math.comb(size, len(x)) <= REPETITIONS:
        first = np.array(list(itertools.combinations(range(size), len(x))))
        mask = np.zeros((len(first), size), bool)
        np.put_along_axis(mask, first, True, axis=1)
        deals = np.argsort(~mask, axis=1, kind="stable")
    else:
        deals = np.random.default_rng(SEED).permuted(np.tile(np.arange(size), (REPETITIONS, 1)), axis=1)
    dealt = pooled[deals]
    differences = interquartile_mean(dealt[:, : len(x)]) - interquartile_mean(dealt[:, len(x) :])
    found = abs(float(interquartile_mean(x) - interquartile_mean(y)))
    return float(np.mean(np.abs(differences) >= found - 1e-12 * np.abs(pooled).max()))


def more_seeds(one: ArrayLike, other: ArrayLike) -> int | None:
    """Return how many more runs each group needs until the intervals part, if the difference stays as it is.

    The pooled standard deviation ``s`` of the runs gives intervals of ± 1.96 s / √n.

    Returns:
        ``MOST_SEEDS + 1`` if :data:`MOST_SEEDS` do not suffice; None if it cannot be told: means are equal, or no
        group has a spread.
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    freedom = len(x) + len(y) - 2
    gap = abs(float(interquartile_mean(x) - interquartile_mean(y)))
    if freedom < 1 or gap == 0.0:
        return None
    deviation = math.sqrt((x.var() * len(x) + y.var() * len(y)) / freedom)
    if deviation == 0.0:
        return None
    for more in range(1, MOST_SEEDS + 1):
        if gap > Z * deviation * ((len(x) + more) ** -0.5 + (len(y) + more) ** -0.5):
            return more
    return MOST_SEEDS + 1


def band(curves: Floats, repetitions: int = 2_000) -> tuple[Floats, Floats, Floats]:
    """Return interquartile mean, lower and upper end of its interval at each step, from ``(runs, steps)``."""
    curves = curves[np.lexsort(curves.T[::-1])]
    drawn = np.random.default_rng(SEED).integers(len(curves), size=(repetitions, len(curves)))
    tails = [50.0 * (1.0 - CONFIDENCE), 50.0 * (1.0 + CONFIDENCE)]
    ends = np.array([np.percentile(interquartile_mean(column[drawn]), tails) for column in curves.T])
    return interquartile_mean(curves.T), ends[:, 0], ends[:, 1]


def _few(strata: Strata) -> bool:
    return any(np.size(scores) < 2 for scores in strata)


def _resampled(strata: Strata, draws: np.random.Generator) -> Floats:
    """Return bootstrap samples, ``(REPETITIONS, runs of all tasks)``."""
    parts = []
    for scores in strata:
        ordered = np.sort(np.asarray(scores, np.float64))
        parts.append(ordered[draws.integers(ordered.size, size=(REPETITIONS, ordered.size))])
    return np.concatenate(parts, axis=1)


def _shares(runs: int, draws: np.random.Generator) -> Floats:
    """Return each run's share of a bootstrap sample, ``(REPETITIONS, runs)``."""
    drawn = draws.integers(runs, size=(REPETITIONS, runs)) + runs * np.arange(REPETITIONS)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=REPETITIONS * runs)  # a tenth of the time of draws.multinomial
    return counts.reshape(REPETITIONS, runs) / runs


def _wins(one: ArrayLike, other: ArrayLike) -> Floats:
    """Return 1 where a run of ``one`` scores higher than one of ``other``, 0.5 at a tie; ``(runs, runs)``."""
    x, y = np.sort(np.asarray(one, np.float64))[:, None], np.sort(np.asarray(other, np.float64))[None, :]
    wins: Floats = (x > y) + 0.5 * (x == y)
    return wins


def _percentiles(values: Floats) -> Interval:
    low, high = np.percentile(values, [50.0 * (1.0 - CONFIDENCE), 50.0 * (1.0 + CONFIDENCE)])
    return Interval(float(low), float(high))
