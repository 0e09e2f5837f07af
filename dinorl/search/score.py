"""The score of a trial: one number that is better the larger it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from dinorl.config import ConfigError
from dinorl.config.errors import unknown_option
from dinorl.evaluation.metrics import METRICS

RETURN = "return"  # mean return less its standard deviation, as for the best bundle
WORST = -1e30  # of what is not a number
_BETTER = {metric.name: metric.better for metric in METRICS if metric.better}


def check_metric(name: str) -> None:
    """Check that trials can be scored by a metric.

    Raises:
        ConfigError: there is no such metric, or neither more nor less of it is better.
    """
    if name != RETURN and name not in _BETTER:
        raise unknown_option("search.metric", name, [RETURN, *_BETTER])


def score(metrics: Mapping[str, float], metric: str) -> float:
    """Return the score of an evaluation; of a metric of which less is better, its negative."""
    if metric == RETURN:
        value = float(metrics["return_mean"]) - float(metrics["return_std"])
    elif metric not in metrics:
        raise ConfigError(f"this animal and stage have no {metric}", key="search.metric", found=metric)
    else:
        value = float(metrics[metric]) * (1.0 if _BETTER[metric] == "up" else -1.0)
    return value if math.isfinite(value) else WORST


def together(scores: Sequence[float]) -> float:
    """Return the score of a trial: the mean over its seeds less their standard deviation."""
    return statistics.fmean(scores) - (statistics.stdev(scores) if len(scores) > 1 else 0.0)
