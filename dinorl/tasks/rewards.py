"""Reward terms: pure functions (signals, parameters) → (n,), without their weights.

A term is logged under its weight's key without ``_weight``. Penalties return values ≤ 0, so weights are positive; only
``fall_penalty`` is a negative amount (``dinorl.tasks.episode``). Terms of movement pay nothing for standing still.
Terms of the event are in ``dinorl.tasks.events``.
"""

from __future__ import annotations

import math

from dinorl.tasks.body import Array, Body
from dinorl.tasks.declare import Need, Parameter, Terms
from dinorl.tasks.episode import GAIT_CLOCK_DUTY, GAIT_CLOCK_FREQUENCY, NATURAL_PITCH
from dinorl.tasks.signals import Signals

TERMS = Terms()
reward = TERMS.term

FORWARD_VEL_MAX = Parameter("forward_vel_max", float | None, "m/s", gt=0.0, example=4.0)
SPEED_PENALTY_THRESHOLD = Parameter("speed_penalty_threshold", unit="m/s", ge=0.0, example=0.1)
IDLE_VELOCITY_THRESHOLD = Parameter("idle_velocity_threshold", unit="m/s", gt=0.0, example=0.1)
FOOT_CONTACT_GATE = Parameter("foot_contact_gate", ge=0.0, le=1.0, example=1.0)
GAIT_FULL_SPEED = Parameter("gait_full_speed", unit="m/s", gt=0.0, example=1.0)
CLOCK = Need(
    lambda env: bool(env.gait_clock_frequency > 0.0),
    "there is no clock to say how long a swing is",
    "Type env.gait_clock_frequency=1.5",
)

# Widths of the bell curves.
POSTURE_WIDTH = 0.25  # rad
HEIGHT_WIDTH = 0.1  # of the home height
CLOCK_EDGE = 0.1  # cycles, soft edge of stance


@reward("alive_bonus", FOOT_CONTACT_GATE)
def alive(s: Signals, foot_contact_gate: float) -> Array:
    """Pay for being up; a share of ``foot_contact_gate`` only with feet on the ground."""
    return 1.0 - foot_contact_gate * (1.0 - s.xp.mean(s.stance, axis=1))


@reward("forward_vel_weight", FORWARD_VEL_MAX)
def forward_vel(s: Signals, forward_vel_max: float | None) -> Array:
    """Pay for speed ahead, up to ``forward_vel_max``."""
    return s.xp.clip(s.velocity_h[:, 0], 0.0, math.inf if forward_vel_max is None else forward_vel_max)


@reward("backward_vel_penalty_weight")
def backward_vel_penalty(s: Signals) -> Array:
    """Charge speed backwards."""
    return s.xp.clip(s.velocity_h[:, 0], -10.0, 0.0)


@reward("lateral_penalty_weight")
def lateral_penalty(s: Signals) -> Array:
    """Charge speed sideways."""
    return -s.xp.abs(s.velocity_h[:, 1])


@reward("heading_weight")
def heading(s: Signals) -> Array:
    """Charge facing away from the target: cosine of the angle to it, less one."""
    return s.target_h[:, 0] / s.xp.clip(s.target_distance, 1e-6, 1e9) - 1.0


@reward("posture_weight", NATURAL_PITCH)
def posture(s: Signals, natural_pitch: float) -> Array:
    """Pay for a level trunk: a bell curve of the angle off ``natural_pitch`` and zero roll."""
    error = (s.pitch - natural_pitch) ** 2 + s.roll**2
    return s.xp.exp(-error / (2.0 * POSTURE_WIDTH**2))


@reward("nosedive_weight", NATURAL_PITCH)
def nosedive(s: Signals, natural_pitch: float) -> Array:
    """Charge pitching nose-down beyond ``natural_pitch``."""
    return -s.xp.clip(s.pitch - natural_pitch, 0.0, 2.0)


@reward("rearing_weight", NATURAL_PITCH)
def rearing(s: Signals, natural_pitch: float) -> Array:
    """Charge pitching nose-up beyond ``natural_pitch``."""
    return -s.xp.clip(natural_pitch - s.pitch, 0.0, 2.0)


@reward("height_weight")
def height(s: Signals, body: Body) -> Array:
    """Pay for carrying the trunk at its home height."""
    error = (s.height - body.home_height) / (HEIGHT_WIDTH * body.home_height)
    return s.xp.exp(-0.5 * error**2)


@reward("foot_contact_weight")
def foot_contact(s: Signals) -> Array:
    """Pay for the share of feet on the ground."""
    return s.xp.mean(s.stance, axis=1)


@reward("drift_penalty_weight")
def drift_penalty(s: Signals) -> Array:
    """Charge distance from where the episode began."""
    return -s.xp.clip(s.drift, 0.0, 5.0)


@reward("speed_penalty_weight", SPEED_PENALTY_THRESHOLD)
def speed_penalty(s: Signals, speed_penalty_threshold: float) -> Array:
    """Charge horizontal speed in any direction above ``speed_penalty_threshold``."""
    speed = s.xp.sqrt(s.velocity_h[:, 0] ** 2 + s.velocity_h[:, 1] ** 2)
    return -s.xp.clip(speed - speed_penalty_threshold, 0.0, 10.0)


@reward("spin_penalty_weight")
def spin_penalty(s: Signals) -> Array:
    """Charge the yaw rate."""
    return -s.xp.clip(s.xp.abs(s.angular_velocity_h[:, 2]), 0.0, 10.0)


@reward("tail_stability_weight")
def tail_stability(s: Signals) -> Array:
    """Charge the turning rate of the tail's tip."""
    return -s.xp.clip(s.tail_rate, 0.0, 10.0)


@reward("gait_stability_weight")
def gait_stability(s: Signals) -> Array:
    """Charge the trunk's roll and pitch rates, squared."""
    rates = s.angular_velocity_h[:, :2]
    return -s.xp.clip(s.xp.sum(rates * rates, axis=1), 0.0, 10.0)


@reward("gait_symmetry_weight", GAIT_FULL_SPEED)
def gait_symmetry(s: Signals, gait_full_speed: float) -> Array:
    """Pay for even alternation of left and right feet, in proportion to speed; a hop earns nothing."""
    return s.xp.mean(s.alternation, axis=1) * gait_speed(s, gait_full_speed)


@reward("gait_clock_weight", GAIT_CLOCK_DUTY, GAIT_FULL_SPEED)
def gait_clock(s: Signals, gait_clock_duty: float, gait_full_speed: float, body: Body) -> Array:
    """Pay for foot contacts in time with the gait clock, in proportion to speed; -1..1."""
    xp = s.xp
    # stance in [0, duty), swing in [duty, 1)
    cycle = (s.phase[:, None] - body.gait_phase) % 1.0
    middle = 0.5 * gait_clock_duty
    off = xp.abs((cycle - middle + 0.5) % 1.0 - 0.5)  # distance from mid-stance
    stance = xp.clip((middle - off) / CLOCK_EDGE + 0.5, 0.0, 1.0)
    agreement = 1.0 - 2.0 * xp.abs(s.stance - stance)
    return xp.mean(agreement, axis=1) * gait_speed(s, gait_full_speed)


@reward("foot_slip_penalty_weight")
def foot_slip_penalty(s: Signals) -> Array:
    """Charge the horizontal speed of feet that bear load: skating and dragging toes."""
    return -s.xp.clip(s.xp.mean(s.stance * s.foot_speed, axis=1), 0.0, 10.0)


@reward("short_swing_penalty_weight", GAIT_CLOCK_FREQUENCY, GAIT_CLOCK_DUTY, need=CLOCK)
def short_swing_penalty(s: Signals, gait_clock_frequency: float, gait_clock_duty: float) -> Array:
    """Charge feet that land before the swing of the gait clock is over: scuffing, shuffling, pattering.

    A touchdown after no time in the air counts 1, after half of the swing 1/2, in stance 0; mean over the feet. This
    is the negative half of the air-time reward of Rudin et al. 2022, "Learning to Walk in Minutes Using Massively
    Parallel Deep Reinforcement Learning": long swings cost nothing.
    """
    swing = (1.0 - gait_clock_duty) / gait_clock_frequency if gait_clock_frequency else 0.0  # s
    missing = s.xp.clip(swing - s.air_time, 0.0, swing) / max(swing, 1e-9)
    return -s.xp.mean(s.xp.where(s.touchdown, missing, 0.0), axis=1)


@reward("smoothness_weight")
def smoothness(s: Signals) -> Array:
    """Charge the mean squared change of action."""
    return -s.xp.mean(s.action_change**2, axis=1)


@reward("energy_penalty_weight")
def energy_penalty(s: Signals, body: Body) -> Array:
    """Charge the servos' mechanical power, in units of body weight times 1 m/s."""
    return -s.xp.clip(s.power / body.weight, 0.0, 100.0)


@reward("idle_penalty_weight", IDLE_VELOCITY_THRESHOLD)
def idle_penalty(s: Signals, idle_velocity_threshold: float) -> Array:
    """Charge being slower ahead than ``idle_velocity_threshold``: -1 at rest, 0 from the threshold on."""
    return s.xp.clip(s.velocity_h[:, 0] / max(idle_velocity_threshold, 1e-6), 0.0, 1.0) - 1.0


def gait_speed(s: Signals, gait_full_speed: float) -> Array:
    """Return speed ahead as a share of ``gait_full_speed``, 0..1."""
    return s.xp.clip(s.velocity_h[:, 0] / gait_full_speed, 0.0, 1.0)
