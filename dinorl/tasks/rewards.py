"""The reward, one pure function a term: (signals, knobs) → (n,), no weight inside.

A term's name is its YAML key (less ``_weight``) and its log key. Terms that are penalties return values ≤ 0, so that
every weight is written positive (``fall_penalty`` alone is itself the amount, written negative). Terms of movement are
worth nothing to a statue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dinorl.tasks.signals import Array, Signals


@dataclass(frozen=True)
class Knobs:
    """The parameters of the terms that are no weights; (see ``conf/base/env.yaml``)."""

    home_height: float  # m
    weight_newton: float  # N
    natural_pitch: float  # rad
    forward_vel_max: float  # m/s
    speed_penalty_threshold: float  # m/s
    idle_velocity_threshold: float  # m/s
    foot_contact_gate: float
    gait_phase: tuple[float, ...]  # cycles
    gait_clock_duty: float
    gait_full_speed: float  # m/s, from which gait terms pay in full
    gait_swing: float  # s, a foot's time in the air by the gait clock; 0: there is no clock
    event_hold: int  # control steps that the animal must stay up after its event


Term = Callable[[Signals, Knobs], Array]

# Widths of the bell curves that turn an error into 0..1.
POSTURE_WIDTH = 0.25  # rad
HEIGHT_WIDTH = 0.1  # of the home height
TRUNK_PROXIMITY = 2.0  # m
EFFECTOR_PROXIMITY = 1.0  # m
# Width of the gait clock's soft change between stance and swing.
CLOCK_EDGE = 0.1  # cycles


def alive(s: Signals, k: Knobs) -> Array:
    """Pay for being up; ``foot_contact_gate`` of it only with the feet on the ground."""
    return 1.0 - k.foot_contact_gate * (1.0 - s.xp.mean(s.stance, axis=1))


def forward_vel(s: Signals, k: Knobs) -> Array:
    """Pay for speed ahead, up to ``forward_vel_max``."""
    return s.xp.clip(s.velocity_h[:, 0], 0.0, k.forward_vel_max)


def backward_vel_penalty(s: Signals, k: Knobs) -> Array:
    """Charge speed backwards."""
    return s.xp.clip(s.velocity_h[:, 0], -10.0, 0.0)


def lateral_penalty(s: Signals, k: Knobs) -> Array:
    """Charge speed sideways."""
    return -s.xp.abs(s.velocity_h[:, 1])


def heading(s: Signals, k: Knobs) -> Array:
    """Charge facing away from the target: cosine of the angle to it, less one."""
    return s.target_h[:, 0] / s.xp.clip(s.target_distance, 1e-6, 1e9) - 1.0


def posture(s: Signals, k: Knobs) -> Array:
    """Pay for a level trunk: a bell curve of the angle off ``natural_pitch`` and zero roll."""
    error = (s.pitch - k.natural_pitch) ** 2 + s.roll**2
    return s.xp.exp(-error / (2.0 * POSTURE_WIDTH**2))


def nosedive(s: Signals, k: Knobs) -> Array:
    """Charge pitching nose-down beyond ``natural_pitch``."""
    return -s.xp.clip(s.pitch - k.natural_pitch, 0.0, 2.0)


def height(s: Signals, k: Knobs) -> Array:
    """Pay for carrying the trunk at its home height."""
    error = (s.height - k.home_height) / (HEIGHT_WIDTH * k.home_height)
    return s.xp.exp(-0.5 * error**2)


def foot_contact(s: Signals, k: Knobs) -> Array:
    """Pay for the share of feet on the ground."""
    return s.xp.mean(s.stance, axis=1)


def drift_penalty(s: Signals, k: Knobs) -> Array:
    """Charge distance from where the episode began."""
    return -s.xp.clip(s.drift, 0.0, 5.0)


def speed_penalty(s: Signals, k: Knobs) -> Array:
    """Charge horizontal speed in any direction above ``speed_penalty_threshold``."""
    speed = s.xp.sqrt(s.velocity_h[:, 0] ** 2 + s.velocity_h[:, 1] ** 2)
    return -s.xp.clip(speed - k.speed_penalty_threshold, 0.0, 10.0)


def spin_penalty(s: Signals, k: Knobs) -> Array:
    """Charge the yaw rate."""
    return -s.xp.clip(s.xp.abs(s.angular_velocity_h[:, 2]), 0.0, 10.0)


def tail_stability(s: Signals, k: Knobs) -> Array:
    """Charge the rate at which the tail's tip turns."""
    return -s.xp.clip(s.tail_rate, 0.0, 10.0)


def gait_stability(s: Signals, k: Knobs) -> Array:
    """Charge the trunk's roll and pitch rates, squared."""
    rates = s.angular_velocity_h[:, :2]
    return -s.xp.clip(s.xp.sum(rates * rates, axis=1), 0.0, 10.0)


def gait_symmetry(s: Signals, k: Knobs) -> Array:
    """Pay for left and right feet taking turns evenly, in proportion to speed: nothing for a statue or a hop."""
    return s.xp.mean(s.alternation, axis=1) * gait_speed(s, k)


def gait_clock(s: Signals, k: Knobs) -> Array:
    """Pay for each foot bearing load when the clock says so and not when not, in proportion to speed; -1..1."""
    xp = s.xp
    # a foot's own cycle: stance in [0, duty), swing in [duty, 1)
    cycle = (s.phase[:, None] - xp.asarray(k.gait_phase)) % 1.0
    middle = 0.5 * k.gait_clock_duty
    off = xp.abs((cycle - middle + 0.5) % 1.0 - 0.5)  # distance from mid-stance
    stance = xp.clip((middle - off) / CLOCK_EDGE + 0.5, 0.0, 1.0)
    agreement = 1.0 - 2.0 * xp.abs(s.stance - stance)
    return xp.mean(agreement, axis=1) * gait_speed(s, k)


def foot_slip_penalty(s: Signals, k: Knobs) -> Array:
    """Charge the horizontal speed of feet that bear load: skating and dragging toes."""
    return -s.xp.clip(s.xp.mean(s.stance * s.foot_speed, axis=1), 0.0, 10.0)


def short_swing_penalty(s: Signals, k: Knobs) -> Array:
    """Charge feet that land before the swing of the gait clock is over: scuffed toes, shuffling, pattering.

    A touchdown after no time in the air counts 1, one after half of the swing 1/2, mean over the feet; a foot that
    stays where it is counts nothing. It is the charging half of the usual reward for time in the air (Rudin et al.
    2022, "Learning to Walk in Minutes Using Massively Parallel Deep Reinforcement Learning"): no swing is too long.
    """
    missing = s.xp.clip(k.gait_swing - s.air_time, 0.0, k.gait_swing) / max(k.gait_swing, 1e-9)
    return -s.xp.mean(s.touchdown * missing, axis=1)


def smoothness(s: Signals, k: Knobs) -> Array:
    """Charge the mean squared change of action."""
    return -s.xp.mean(s.action_change**2, axis=1)


def energy_penalty(s: Signals, k: Knobs) -> Array:
    """Charge the servos' mechanical power, in units of body weight times 1 m/s."""
    return -s.xp.clip(s.power / k.weight_newton, 0.0, 100.0)


def idle_penalty(s: Signals, k: Knobs) -> Array:
    """Charge being slower ahead than ``idle_velocity_threshold``: -1 at rest, 0 from the threshold on."""
    return s.xp.clip(s.velocity_h[:, 0] / max(k.idle_velocity_threshold, 1e-6), 0.0, 1.0) - 1.0


def event_bonus(s: Signals, k: Knobs) -> Array:
    """Pay once for the event itself: the bite, the strike, the reach.

    Who falls before ``event_hold`` is over loses it again (the environment knows of falls). Paid after that time
    it would come to the same, but first touches are falls, and would teach nothing.
    """
    return s.xp.astype(s.event_steps == 1, s.xp.float64)


def event_approach(s: Signals, k: Knobs) -> Array:
    """Pay for the trunk's speed towards the target, up to ``forward_vel_max``; charge going away."""
    limit = min(k.forward_vel_max, 10.0)
    return s.xp.clip(s.approach_speed, -limit, limit)


def event_progress(s: Signals, k: Knobs) -> Array:
    """Pay for the speed, up to ``forward_vel_max``, by which the effector gets nearer to the target than it ever was.

    What has been gained is never lost again, so that a pass over the target teaches as much as a stop at it, and
    nothing holds the trunk there (``closest distance so far`` of Petrenko et al. 2023, "DexPBT: Scaling up Dexterous
    Manipulation for Hand-Arm Systems with Population Based Training").
    """
    return s.xp.clip(s.progress_speed, 0.0, min(k.forward_vel_max, 10.0))


def event_proximity(s: Signals, k: Knobs) -> Array:
    """Pay for the trunk being close to the target: a bell curve of the distance."""
    return s.xp.exp(-0.5 * (s.target_distance / TRUNK_PROXIMITY) ** 2)


def effector_proximity(s: Signals, k: Knobs) -> Array:
    """Pay for the effector being close to the target: a bell curve of the distance."""
    return s.xp.exp(-0.5 * (s.xp.clip(s.effector_distance, 0.0, 100.0) / EFFECTOR_PROXIMITY) ** 2)


def gait_speed(s: Signals, k: Knobs) -> Array:
    """Return speed ahead as a share of the one from which gait terms pay in full, 0..1."""
    return s.xp.clip(s.velocity_h[:, 0] / k.gait_full_speed, 0.0, 1.0)


def happened(s: Signals, k: Knobs) -> Array:
    """Return (n,) bool: the effector came within the event's threshold, ``event_hold`` control steps ago.

    That an animal which throws itself at the target has ended its episode by then is what the wait is for.
    """
    return s.event_steps == k.event_hold + 1


# The env key that weighs each term. ``fall_penalty`` is the environment's own: it is the one that knows of falls.
TERMS: dict[str, Term] = {
    "alive_bonus": alive,
    "forward_vel_weight": forward_vel,
    "backward_vel_penalty_weight": backward_vel_penalty,
    "lateral_penalty_weight": lateral_penalty,
    "heading_weight": heading,
    "posture_weight": posture,
    "nosedive_weight": nosedive,
    "height_weight": height,
    "foot_contact_weight": foot_contact,
    "drift_penalty_weight": drift_penalty,
    "speed_penalty_weight": speed_penalty,
    "spin_penalty_weight": spin_penalty,
    "tail_stability_weight": tail_stability,
    "gait_stability_weight": gait_stability,
    "gait_symmetry_weight": gait_symmetry,
    "gait_clock_weight": gait_clock,
    "foot_slip_penalty_weight": foot_slip_penalty,
    "short_swing_penalty_weight": short_swing_penalty,
    "smoothness_weight": smoothness,
    "energy_penalty_weight": energy_penalty,
    "idle_penalty_weight": idle_penalty,
}
# The same for the event's terms, by the role that ``species.event.keys`` gives a key for.
EVENT_TERMS: dict[str, Term] = {
    "bonus": event_bonus,
    "approach_weight": event_approach,
    "progress_weight": event_progress,
    "proximity_weight": event_proximity,
    "effector_proximity_weight": effector_proximity,
}
