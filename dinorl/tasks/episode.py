"""Targets, action filter, pushes and falls: pure functions of uniform random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dinorl.tasks.body import Array, namespace
from dinorl.tasks.declare import Need, Parameter
from dinorl.tasks.signals import Signals

NATURAL_PITCH = Parameter("natural_pitch", unit="rad", ge=-math.pi / 2, le=math.pi / 2, example=0.0)
GAIT_CLOCK_FREQUENCY = Parameter("gait_clock_frequency", unit="Hz", ge=0.0, example=1.5)
GAIT_CLOCK_DUTY = Parameter("gait_clock_duty", unit="share of the stride", gt=0.0, le=1.0, example=0.5)

# Keys of ``env`` without a reward term.
PARAMETERS = (
    Parameter("fall_penalty", le=0.0, example=-50.0),
    NATURAL_PITCH,
    GAIT_CLOCK_FREQUENCY,
    GAIT_CLOCK_DUTY,
    Parameter("nosedive_termination_threshold", float | None, "rad", gt=0.0, le=math.pi, example=0.35),
    Parameter("action_time_constant", unit="s", ge=0.0, example=0.06),
    Parameter("healthy_z_range", list[float], "m"),
    Parameter("max_tilt_angle", unit="rad", gt=0.0, le=math.pi, example=0.9),
    Parameter("reset_noise_scale", unit="rad and rad/s", ge=0.0, example=0.05),
    Parameter("first_target_bearing_range", list[float], "rad"),
    Parameter("event_hold", unit="s", ge=0.0, le=10.0, example=0.5),
    Parameter("max_episode_steps", int, "control steps", ge=1, le=1 << 20, example=1000),
    Parameter(
        "push_interval", unit="s", ge=0.0, example=2.0,
        need=Need(lambda env: bool(env.push_speed > 0.0), "pushes have no speed", "Type env.push_speed=0.3"),
    ),
    Parameter(
        "push_speed", unit="m/s", ge=0.0, example=0.5,
        need=Need(lambda env: bool(env.push_interval > 0.0), "nobody is pushed", "Type env.push_interval=2.0"),
    ),
)  # fmt: skip

# m, horizontal; the target moves on here unless the event ends the episode.
# At a run the animal cannot turn within less.
TARGET_REACHED = 2.5


def spread(u: Array, bounds: Sequence[float]) -> Array:
    """Map uniform numbers in [0, 1) to a range."""
    return bounds[0] + u * (bounds[1] - bounds[0])


def turn(heading_w: Array, u: Array, bearing: Sequence[float]) -> Array:
    """Return (n, 2) headings turned by an angle in a range (rad, left positive), from (n,) uniform numbers."""
    xp = namespace(heading_w)
    angle = spread(u, bearing)
    cos, sin = xp.cos(angle), xp.sin(angle)
    x, y = heading_w[:, 0], heading_w[:, 1]
    return xp.stack([cos * x - sin * y, sin * x + cos * y], axis=1)


def place_target(
    position_w: Array, heading_w: Array, u: Array,
    distance: Sequence[float], lateral: Sequence[float], height: Sequence[float],
) -> Array:  # fmt: skip
    """Return (n, 3) world positions of targets ahead of the animals.

    Args:
        position_w, heading_w: (n, 2) of the trunk.
        u: (n, 3) uniform numbers: distance ahead, distance to the left, height.
        distance, lateral, height: their ranges, m.
    """
    ahead, left = spread(u[:, 0], distance), spread(u[:, 1], lateral)
    x = position_w[:, 0] + ahead * heading_w[:, 0] - left * heading_w[:, 1]
    y = position_w[:, 1] + ahead * heading_w[:, 1] + left * heading_w[:, 0]
    return namespace(u).stack([x, y, spread(u[:, 2], height)], axis=1)


def follow(command: Array, action: Array, dt: float, time_constant: float) -> Array:
    """Return the servo command: the last command moved towards the action by a first-order low-pass filter.

    Trembling actions then hardly move the legs (Peng et al. 2020, "Learning Agile Robotic Locomotion Skills by
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
    """Return the control steps in an interval between pushes; each such window has one push."""
    return max(1, round(interval / dt))


def push_velocity(steps: Array, u: Array, window: int, speed: float) -> Array:
    """Return (n, 2) changes of the trunk's horizontal velocity, world, m/s: one push in every window of steps.

    A push falls in the middle half of its window, so two pushes are never less than half a window apart.

    Args:
        steps: (n,) control steps of the episode so far.
        u: (n, 2) uniform numbers, fixed within a window: time and direction.
        window: of :func:`push_window`.
        speed: of a push, m/s.
    """
    xp = namespace(u)
    moment = xp.floor(window * (0.25 + 0.5 * u[:, 0]))
    angle = u[:, 1] * (2.0 * xp.pi)
    amount = speed * xp.astype(xp.astype(steps % window, u.dtype) == moment, u.dtype)
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
