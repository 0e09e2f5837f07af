"""Where an episode begins and ends: targets, resets, pushes, falls. Pure functions of uniform random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dinorl.tasks.signals import Array, Signals

# A target that the trunk has come this close to (horizontally, m) moves on, in tasks that do not end with the event. An
# animal at a run cannot turn within less: of targets that it just missed, it had to turn back, and there it fell.
TARGET_REACHED = 2.5


def spread(u: Array, bounds: Sequence[float]) -> Array:
    """Map uniform numbers in [0, 1) to a range."""
    return bounds[0] + u * (bounds[1] - bounds[0])


def turn(xp: Any, heading_w: Array, u: Array, bearing: Sequence[float]) -> Array:
    """Return (n, 2) headings turned by an angle of a range (rad, left positive), by (n,) uniform numbers."""
    angle = spread(u, bearing)
    cos, sin = xp.cos(angle), xp.sin(angle)
    x, y = heading_w[:, 0], heading_w[:, 1]
    return xp.stack([cos * x - sin * y, sin * x + cos * y], axis=1)


def place_target(
    xp: Any, position_w: Array, heading_w: Array, u: Array,
    distance: Sequence[float], lateral: Sequence[float], height: Sequence[float],
) -> Array:  # fmt: skip
    """Return (n, 3) world positions of targets ahead of the animals.

    Args:
        xp: array namespace.
        position_w, heading_w: (n, 2) of the trunk.
        u: (n, 3) uniform numbers: distance ahead, distance to the left, height.
        distance, lateral, height: their ranges, m.
    """
    ahead, left = spread(u[:, 0], distance), spread(u[:, 1], lateral)
    x = position_w[:, 0] + ahead * heading_w[:, 0] - left * heading_w[:, 1]
    y = position_w[:, 1] + ahead * heading_w[:, 1] + left * heading_w[:, 0]
    return xp.stack([x, y, spread(u[:, 2], height)], axis=1)


def follow(command: Array, action: Array, dt: float, time_constant: float) -> Array:
    """Return what the servos are told: the last command, moved towards the action by a first-order low-pass filter.

    A quick tremble of actions hardly moves the legs then, and exploration sways them instead of shaking them
    (such filters are usual on real legged robots: Peng et al. 2020, "Learning Agile Robotic Locomotion Skills by
    Imitating Animals", section VI).

    Args:
        command: (n, actuators) of the last control step.
        action: (n, actuators).
        dt: control step, s.
        time_constant: s; with 0 the command is the action.
    """
    if not time_constant:
        return action
    return command + (1.0 - math.exp(-dt / time_constant)) * (action - command)


def push_window(dt: float, interval: float) -> int:
    """Return how many control steps lie in an interval between pushes; each such window has one push."""
    return max(1, round(interval / dt))


def push_velocity(xp: Any, steps: Array, u: Array, window: int, speed: float) -> Array:
    """Return (n, 2) changes of the trunk's horizontal velocity, world, m/s: one push in every window of steps.

    It comes somewhere in the middle half of the window, so that it cannot be foreseen and two of them are never closer
    than half a window: a push is then as hard as ``speed`` says, not by chance twice as hard.

    Args:
        xp: array namespace.
        steps: (n,) control steps of the episode so far.
        u: (n, 2) uniform numbers that hold for the whole window: when, whither.
        window: of :func:`push_window`.
        speed: of a push, m/s.
    """
    moment = xp.floor(window * (0.25 + 0.5 * u[:, 0]))
    angle = u[:, 1] * (2.0 * xp.pi)
    amount = xp.where(steps % window == moment, speed, 0.0)
    return amount[:, None] * xp.stack([xp.cos(angle), xp.sin(angle)], axis=1)


def fallen(
    s: Signals, healthy_z_range: Sequence[float], max_tilt: float, natural_pitch: float, nosedive: float | None
) -> Array:
    """Return (n,) bool: the trunk is too low or too high, too far from level, or nose-down beyond ``nosedive``."""
    low, high = healthy_z_range
    down = (s.height < low) | (s.height > high) | (s.tilt > max_tilt)
    if nosedive is not None:
        down = down | (s.pitch - natural_pitch > nosedive)
    return down
