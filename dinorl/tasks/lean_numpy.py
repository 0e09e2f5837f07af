"""NumPy's namespace with short ways to the same results.

NumPy's functions check and dispatch in Python first, which for one animal takes longer than the work itself. These go
to the ufuncs at once, with the same bits. They take what the tasks pass; all other names are NumPy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def __getattr__(name: str) -> Any:
    """Return NumPy's own, and keep it."""
    value = getattr(np, name)
    globals()[name] = value
    return value


def clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """As ``np.clip``."""
    return x.clip(low, high)


def stack(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """As ``np.stack``, for axes 0, 1 and -1."""
    if axis == -1:
        return np.concatenate([array[..., None] for array in arrays], axis=-1)
    if axis == 1:
        return np.concatenate([array[:, None] for array in arrays], axis=1)
    return np.concatenate([array[None] for array in arrays], axis=0)


def sum(x: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """As ``np.sum``."""
    return np.asarray(np.add.reduce(x, axis=axis))


def mean(x: np.ndarray, axis: int) -> np.ndarray:
    """As ``np.mean`` of real numbers."""
    return np.asarray(np.add.reduce(x, axis=axis) / x.shape[axis])


def any(x: np.ndarray) -> bool:
    """As ``np.any``."""
    return bool(np.count_nonzero(x))


def astype(x: np.ndarray, dtype: Any) -> np.ndarray:
    """As ``np.astype``."""
    return x.astype(dtype)


def reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """As ``np.reshape``."""
    return x.reshape(shape)


def take(x: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    """As ``np.take``."""
    return x.take(indices, axis=axis)
