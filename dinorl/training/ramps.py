"""Ramps of the training environment. Evaluations always use the config's values."""

from __future__ import annotations

from dinorl.config import RAMPED_WEIGHT, Config
from dinorl.envs.batch import BatchEnv


def apply(cfg: Config, batch: BatchEnv, timesteps: int) -> None:
    """Set the ramped values at ``timesteps`` environment steps."""
    batch.task.set_weight(RAMPED_WEIGHT, forward_vel_weight(cfg, timesteps))
    batch.bearing_scale = bearing_scale(cfg, timesteps)
    batch.max_episode_steps = episode_steps(cfg, timesteps)


def forward_vel_weight(cfg: Config, timesteps: int) -> float:
    """Return ``env.forward_vel_weight`` on its ramp."""
    curriculum = cfg.curriculum
    return _ramp(curriculum.ramp_start_value, cfg.env.forward_vel_weight, cfg.ramp_steps, timesteps)


def bearing_scale(cfg: Config, timesteps: int) -> float:
    """Return the scale of the first target's bearing, relative to evaluation."""
    curriculum = cfg.curriculum
    return _ramp(curriculum.bearing_scale_start, curriculum.bearing_scale, curriculum.bearing_ramp_timesteps, timesteps)


def episode_steps(cfg: Config, timesteps: int) -> int:
    """Return the longest training episode, control steps."""
    curriculum = cfg.curriculum
    scale = _ramp(
        curriculum.episode_scale_start, curriculum.episode_scale, curriculum.episode_ramp_timesteps, timesteps
    )
    return max(1, round(scale * cfg.env.max_episode_steps))


def _ramp(start: float | None, value: float, length: int, timesteps: int) -> float:
    """Return a linear ramp from ``start`` to ``value`` over ``length`` steps; without start or length, ``value``."""
    if start is None or not length:
        return value
    return start + (value - start) * min(timesteps / length, 1.0)
