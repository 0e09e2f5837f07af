"""Random numbers for each animal, independent of the batch.

Every number is a hash of (seed, episode, stream, index), so an episode is the same in any batch and the state is two
counters. The hash is SplitMix64's finalizer (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
generators").
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return np.asarray(x ^ (x >> np.uint64(31)))


def uniform(seed: np.ndarray, episode: np.ndarray, stream: int | np.ndarray, count: int) -> np.ndarray:
    """Draw ``count`` numbers in [0, 1) for each animal.

    Args:
        seed: (n,) the animals' seeds.
        episode: (n,) the animals' episode counters.
        stream: number of the use within an episode, or (n,) of them.
        count: numbers for each animal.

    Returns:
        (n, count) float64.
    """
    with np.errstate(over="ignore"):
        key = _mix(seed.astype(np.uint64) + _GOLDEN)
        key = _mix(key ^ (episode.astype(np.uint64) * _M1 + _GOLDEN))
        key = _mix(key ^ (np.asarray(stream).astype(np.uint64) * _M2 + _GOLDEN))
        index = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        bits = _mix(key[:, None] + index[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
