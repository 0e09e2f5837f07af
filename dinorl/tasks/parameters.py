"""The keys below ``env``: every animal's, and those of its event."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from dinorl.tasks.declare import Need, Parameter

NEEDS_CLOCK = Need(
    lambda env: env.gait_clock_frequency > 0.0,
    "there is no gait clock that says how long a swing is",
    "Type env.gait_clock_frequency=1.5",
)
NEEDS_INTERVAL = Need(lambda env: env.push_interval > 0.0, "nobody is pushed", "Type env.push_interval=2.0")
NEEDS_SPEED = Need(lambda env: env.push_speed > 0.0, "pushes have no speed", "Type env.push_speed=0.3")

_ENV = [
    Parameter("alive_bonus"),
    Parameter("fall_penalty", le=0.0, example=-50.0),
    Parameter("forward_vel_weight"),
    Parameter("forward_vel_max", float | None, "m/s", gt=0.0, example=4.0),
    Parameter("backward_vel_penalty_weight"),
    Parameter("drift_penalty_weight"),
    Parameter("speed_penalty_weight"),
    Parameter("speed_penalty_threshold", unit="m/s", ge=0.0, example=0.1),
    Parameter("spin_penalty_weight"),
    Parameter("heading_weight"),
    Parameter("lateral_penalty_weight"),
    Parameter("posture_weight"),
    Parameter("nosedive_weight"),
    Parameter("natural_pitch", unit="rad", ge=-math.pi / 2, le=math.pi / 2, example=0.0),
    Parameter("nosedive_termination_threshold", float | None, "rad", gt=0.0, le=math.pi, example=0.35),
    Parameter("height_weight"),
    Parameter("tail_stability_weight"),
    Parameter("gait_stability_weight"),
    Parameter("gait_symmetry_weight"),
    Parameter("gait_clock_weight"),
    Parameter("gait_clock_frequency", unit="Hz", ge=0.0, example=1.5),
    Parameter("gait_clock_duty", gt=0.0, le=1.0, example=0.5),
    Parameter("gait_full_speed", unit="m/s", gt=0.0, example=1.0),
    Parameter("foot_slip_penalty_weight"),
    Parameter("short_swing_penalty_weight", need=NEEDS_CLOCK),
    Parameter("smoothness_weight"),
    Parameter("energy_penalty_weight"),
    Parameter("idle_penalty_weight"),
    Parameter("idle_velocity_threshold", unit="m/s", gt=0.0, example=0.1),
    Parameter("foot_contact_gate", ge=0.0, le=1.0, example=1.0),
    Parameter("foot_contact_weight"),
    Parameter("action_time_constant", unit="s", ge=0.0, example=0.06),
    Parameter("healthy_z_range", list[float], "m"),
    Parameter("max_tilt_angle", unit="rad", gt=0.0, le=math.pi, example=0.9),
    Parameter("reset_noise_scale", unit="rad", ge=0.0, example=0.05),
    Parameter("first_target_bearing_range", list[float], "rad"),
    Parameter("event_hold", unit="s", ge=0.0, le=10.0, example=0.5),
    Parameter("max_episode_steps", int, ge=1, le=1 << 20, example=1000),
    Parameter("push_interval", unit="s", ge=0.0, example=2.0, need=NEEDS_SPEED),
    Parameter("push_speed", unit="m/s", ge=0.0, example=0.5, need=NEEDS_INTERVAL),
]
_EVENT = {
    "bonus": Parameter(""),
    "approach_weight": Parameter(""),
    "progress_weight": Parameter(""),
    "proximity_weight": Parameter(""),
    "effector_proximity_weight": Parameter(""),
    "threshold": Parameter("", unit="m"),
    "distance_range": Parameter("", list[float], "m"),
    "lateral_range": Parameter("", list[float], "m"),
    "height_range": Parameter("", list[float], "m"),
}


def env_parameters() -> list[Parameter]:
    """Return every animal's keys."""
    return list(_ENV)


def event_parameters(keys: Mapping[str, str]) -> list[Parameter]:
    """Return the keys of an event, by role.

    Raises:
        KeyError: a role is unknown.
    """
    return [replace(_EVENT[role], name=key) for role, key in keys.items()]
