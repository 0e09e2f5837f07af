"""Checks of what a caller passes to the Gymnasium views; each error says what was found and what was expected."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

RESET_MASK = "reset_mask"


def checked_actions(actions: Any, shape: tuple[int, ...], ignored: np.ndarray | None = None) -> np.ndarray:
    """Return actions as float64.

    Args:
        actions: of the caller.
        shape: expected; the last axis is one animal's.
        ignored: (n,) bool, animals the actions of which are not used; theirs become 0.

    Raises:
        ValueError: another shape, no numbers, or a NaN or infinite one.
    """
    try:
        found = np.asarray(actions, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"action: found {actions!r}, expected numbers of shape {shape}") from error
    if found.shape != shape:
        raise ValueError(f"action: found shape {found.shape}, expected {shape}")
    if ignored is not None:
        found = np.where(ignored[:, None], 0.0, found)
    if not np.isfinite(found).all():
        bad = np.flatnonzero(~np.isfinite(found).all(axis=-1)).tolist() if found.ndim > 1 else [0]
        raise ValueError(f"action: found NaN or infinity for animals {bad}, expected finite numbers in [-1, 1]")
    return found


def checked_seeds(seed: Any, n: int) -> list[int | None]:
    """Return one seed for each animal: ``seed + i``, or the ``i``-th of a sequence; None: not given.

    Raises:
        ValueError: a sequence of another length, or a negative seed.
        TypeError: no integer, sequence of them, or None.
    """
    if seed is None:
        return [None] * n
    if isinstance(seed, np.ndarray):
        seed = seed.tolist()
    if isinstance(seed, Sequence) and not isinstance(seed, str):
        if len(seed) != n:
            raise ValueError(f"seed: found {len(seed)} seeds, expected one for each of {n} animals")
        return [None if one is None else _whole(one) for one in seed]
    first = _whole(seed)
    return [first + i for i in range(n)]


def _whole(seed: Any) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: found {seed!r}, expected an integer ≥ 0 or None") from None
    if number < 0:
        raise ValueError(f"seed: found {number}, expected an integer ≥ 0 or None")
    return number


def refuse_unknown_options(options: dict[str, Any] | None, known: tuple[str, ...] = ()) -> None:
    """Check the keys of ``reset``'s options.

    Raises:
        ValueError: a key is unknown.
    """
    if unknown := sorted(set(options or ()) - set(known), key=str):
        raise ValueError(f"options: found {unknown}, expected {f'only {list(known)}' if known else 'none'}")


def checked_reset_mask(options: dict[str, Any] | None, n: int) -> np.ndarray:
    """Return which of ``n`` animals to reset, (n,) bool; all without ``options["reset_mask"]``.

    Raises:
        TypeError: the mask is no bool array.
        ValueError: it has another shape or names nobody, or the options have another key.
    """
    refuse_unknown_options(options, (RESET_MASK,))
    if not options or RESET_MASK not in options:
        return np.ones(n, dtype=bool)
    mask = options[RESET_MASK]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        kind = f"an array of {mask.dtype}" if isinstance(mask, np.ndarray) else f"a {type(mask).__name__}"
        raise TypeError(f"options['{RESET_MASK}']: found {kind}, expected a NumPy array of bool")
    if mask.shape != (n,):
        raise ValueError(f"options['{RESET_MASK}']: found shape {mask.shape}, expected ({n},)")
    if not mask.any():
        raise ValueError(f"options['{RESET_MASK}']: found no True, expected at least one")
    return mask


def checked_limit(max_episode_steps: int | None, default: int) -> int:
    """Return the time limit in control steps.

    Args:
        max_episode_steps: None: the default; -1: no limit, as in ``gym.make``.
        default: the config's.

    Raises:
        ValueError: it is neither -1 nor an integer ≥ 1.
    """
    if max_episode_steps is None:
        return default
    if not isinstance(max_episode_steps, (int, np.integer)) or not (max_episode_steps >= 1 or max_episode_steps == -1):
        raise ValueError(f"max_episode_steps={max_episode_steps!r}: expected an integer ≥ 1, or -1 for no limit")
    return NO_LIMIT if max_episode_steps == -1 else int(max_episode_steps)


NO_LIMIT = int(np.iinfo(np.int64).max)  # control steps
