"""The third stage's event (bite, strike, reach): its reward terms and other parameters.

Each has a role. ``species.event.keys`` maps roles to keys of ``env``; a species may leave roles out.
"""

from __future__ import annotations

import math

from dinorl.tasks.body import Array
from dinorl.tasks.declare import Parameter, Terms
from dinorl.tasks.rewards import FORWARD_VEL_MAX
from dinorl.tasks.signals import Signals

EVENT_TERMS = Terms()  # by role
event_reward = EVENT_TERMS.term

# Widths of the bell curves of distance.
TRUNK_PROXIMITY = 2.0  # m
EFFECTOR_PROXIMITY = 1.0  # m
# m/s, cap of the paid speed.
FASTEST = 10.0


@event_reward("bonus")
def bonus(s: Signals) -> Array:
    """Pay once for the event itself.

    A fall within ``event_hold`` takes the bonus back (``dinorl.envs.task``). Paying only after the hold would teach
    nothing: first touches are falls.
    """
    return s.xp.astype(s.event_steps == 1, s.height.dtype)


@event_reward("approach_weight", FORWARD_VEL_MAX)
def approach(s: Signals, forward_vel_max: float | None) -> Array:
    """Pay for the trunk's speed towards the target, up to ``forward_vel_max``; charge the speed away from it."""
    limit = _limit(forward_vel_max)
    return s.xp.clip(s.approach_speed, -limit, limit)


@event_reward("progress_weight", FORWARD_VEL_MAX)
def progress(s: Signals, forward_vel_max: float | None) -> Array:
    """Pay for the speed at which the effector's closest distance so far shrinks, up to ``forward_vel_max``.

    Progress is never lost: passing the target pays as much as stopping at it (Petrenko et al. 2023, "DexPBT: Scaling
    up Dexterous Manipulation for Hand-Arm Systems with Population Based Training").
    """
    return s.xp.clip(s.progress_speed, 0.0, _limit(forward_vel_max))


@event_reward("proximity_weight")
def proximity(s: Signals) -> Array:
    """Pay for the trunk being close to the target: a bell curve of the distance."""
    return s.xp.exp(-0.5 * (s.target_distance / TRUNK_PROXIMITY) ** 2)


@event_reward("effector_proximity_weight")
def effector_proximity(s: Signals) -> Array:
    """Pay for the effector being close to the target: a bell curve of the distance."""
    return s.xp.exp(-0.5 * (s.xp.clip(s.effector_distance, 0.0, 100.0) / EFFECTOR_PROXIMITY) ** 2)


# Parameters by role.
ROLES: dict[str, Parameter] = {role: term.weight for role, term in EVENT_TERMS.items()} | {
    "threshold": Parameter("threshold", unit="m"),
    "distance_range": Parameter("distance_range", list[float], "m"),
    "lateral_range": Parameter("lateral_range", list[float], "m"),
    "height_range": Parameter("height_range", list[float], "m"),
}


def happened(s: Signals, hold: int) -> Array:
    """Return (n,) bool: the effector came within the event's threshold ``hold`` control steps ago.

    By then an animal that threw itself at the target has fallen.
    """
    return s.event_steps == hold + 1


def _limit(forward_vel_max: float | None) -> float:
    return min(math.inf if forward_vel_max is None else forward_vel_max, FASTEST)
