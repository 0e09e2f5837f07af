"""A verdict over several species at the same stage.

Scores of different tasks have no common scale, and stages of a curriculum follow from each other. So only the
probability of improvement is taken over tasks, and only over species.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dinorl.verdicts import statistics
from dinorl.verdicts.comparison import LEAST_SEEDS, Comparison
from dinorl.verdicts.statistics import Floats, Interval

EVEN = 0.5  # probability of improvement of equal groups


@dataclass(frozen=True)
class Overall:
    """What the scores of two groups say over species.

    Attributes:
        tasks: such as ``trex bite``.
        one: label of the group that is more often better.
        other: label of the other group.
        improvement: probability that a run of ``one`` is better than a run of ``other``, the species' mean.
        interval: stratified bootstrap interval of it.
        better: ``one`` if the interval leaves out 1/2, else None.
        why: one sentence.
    """

    tasks: tuple[str, ...]
    one: str
    other: str
    improvement: float
    interval: Interval
    better: str | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """Return the numbers."""
        return asdict(self) | {"interval": [self.interval.low, self.interval.high]}


def over_species(comparisons: Sequence[Comparison]) -> list[Overall]:
    """Return a verdict for each two groups that several comparisons have, all scores measured.

    Args:
        comparisons: of the same stage, one a species.
    """
    pairs = dict.fromkeys(pair for found in comparisons for pair in _pairs(found))
    verdicts = []
    for one, other in pairs:
        both = [found for found in comparisons if (one, other) in _pairs(found)]
        if len(both) > 1:
            verdicts.append(_verdict(both, one, other))
    return verdicts


def _pairs(found: Comparison) -> list[tuple[str, str]]:
    whole = [
        group.label for group in found.groups if len(group.measured) == len(group.scores) and len(group.scores) > 1
    ]
    return list(itertools.combinations(whole, 2))


def _verdict(both: Sequence[Comparison], one: str, other: str) -> Overall:
    first, second = _strata(both, one), _strata(both, other)
    if statistics.improvement(first, second) < EVEN:
        one, other, first, second = other, one, second, first
    interval = statistics.improvement_interval(first, second)
    assert interval is not None  # two scores each
    enough = min(scores.size for scores in (*first, *second)) >= LEAST_SEEDS
    better = one if enough and interval.low > EVEN else None
    said = f"{one} is better than {other}" if better else f"No winner between {one} and {other}"
    why = "leaves out 50 %" if better else f"needs {LEAST_SEEDS} seeds a group" if not enough else "holds 50 %"
    tasks = tuple(f"{found.species} {found.stage}" for found in both)
    improvement = statistics.improvement(first, second)
    sentence = f"{said} over {len(both)} species: the interval {why}."
    return Overall(tasks, one, other, improvement, interval, better, sentence)


def _strata(comparisons: Sequence[Comparison], label: str) -> list[Floats]:
    """Return a group's scores of each task, more is better."""
    return [
        np.array(next(group.scores for group in found.groups if group.label == label))
        * (1.0 if found.metric.better == "up" else -1.0)
        for found in comparisons
    ]
