"""How much each key of a search matters, with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinorl.search.space import Axis, Values

MIN_TRIALS = 12  # fewer leave too few outside a bootstrap sample
_ROUNDS, _TREES, _PERMUTATIONS = 40, 50, 5


@dataclass(frozen=True)
class Importance:
    """Share of the score's variance that permuting a key destroys."""

    key: str
    mean: float
    low: float  # 2.5th percentile over bootstrap samples
    high: float  # 97.5th

    @property
    def clear(self) -> bool:
        """Whether it is above 0 beyond doubt."""
        return self.low > 0.0


def importance(axes: Sequence[Axis], trials: Sequence[Values], scores: Sequence[float]) -> list[Importance] | None:
    """Return each key's permutation importance in a random forest (Breiman 2001), the largest first.

    Each round fits the forest to a bootstrap sample of the trials and permutes keys among the trials outside of it, so
    that a key that only fits noise has about 0.

    Returns:
        None with fewer than :data:`MIN_TRIALS` trials, or equal scores.
    """
    n, target = len(trials), np.asarray(scores, dtype=float)
    if n < MIN_TRIALS or np.ptp(target) == 0.0:
        return None
    from sklearn.ensemble import RandomForestRegressor  # takes a second

    features = np.array([[axis.number(values[axis.key]) for axis in axes] for values in trials])
    target = (target - target.mean()) / target.std()
    random = np.random.default_rng(0)
    drops = np.zeros((_ROUNDS, len(axes)))
    for i in range(_ROUNDS):
        inside = random.integers(n, size=n)
        outside = np.setdiff1d(np.arange(n), inside)
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=i, n_jobs=1)
        forest.fit(features[inside], target[inside])
        drops[i] = _drops(forest, features[outside], target[outside], random)
    low, high = np.percentile(drops, [2.5, 97.5], axis=0)
    found = [Importance(axis.key, *map(float, row)) for axis, *row in zip(axes, drops.mean(0), low, high, strict=True)]
    return sorted(found, key=lambda one: -one.mean)


def _drops(forest: object, features: np.ndarray, target: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return by how much permuting each column raises the mean squared error, ``(keys,)``."""
    keys = features.shape[1]
    tried = np.repeat(features[None], 1 + keys * _PERMUTATIONS, axis=0)
    for key in range(keys):
        for i in range(_PERMUTATIONS):
            tried[1 + key * _PERMUTATIONS + i, :, key] = random.permutation(features[:, key])
    predicted = forest.predict(tried.reshape(-1, keys)).reshape(len(tried), -1)  # type: ignore[attr-defined]
    errors = ((predicted - target) ** 2).mean(axis=1)
    drops: np.ndarray = errors[1:].reshape(keys, _PERMUTATIONS).mean(axis=1) - errors[0]
    return drops
