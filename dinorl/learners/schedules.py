"""Hyperparameter schedules: functions of ``progress_remaining``, from 1 to 0 over a stage."""

from __future__ import annotations

import math
from collections.abc import Callable

from dinorl.config import Config

Schedule = Callable[[float], float]


def schedule(start: float, end: float | None, shape: str) -> Schedule:
    """Return a schedule from ``start`` to ``end``, linear or half a cosine; constant without ``end``.

    In the last rollout ``progress_remaining`` may be negative; the value then stays at ``end``.
    """
    if end is None:
        return lambda remaining: start
    if shape == "cosine":
        return lambda remaining: end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * (1.0 - max(remaining, 0.0))))
    return lambda remaining: end + (start - end) * max(remaining, 0.0)


def warm_up(base: Schedule, value: float | None, cfg: Config) -> Schedule:
    """Return ``base`` with ``value`` during the stage's warm-up."""
    if value is None or not cfg.warmup_steps:
        return base
    share = min(cfg.warmup_steps / cfg.curriculum.timesteps, 1.0)
    return lambda remaining: value if 1.0 - remaining < share else base(remaining)


def entropy_schedule(start: float, end: float | None, shape: str, cfg: Config) -> Schedule:
    """Return the entropy coefficient over the stage, its warm-up included."""
    return warm_up(schedule(start, end, shape), cfg.curriculum.warmup_ent_coef, cfg)
