"""The task once more, for one animal in plain floats: what somebody would write who never heard of batches.

The benchmark needs a fair opponent. Array functions on a batch of one cost several times what plain floats do, so the
opponent gets its own; a test holds both to the same observations, rewards and endings along the same actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dinorl.config import EnvConfig
from dinorl.tasks import observation
from dinorl.tasks import rewards as terms
from dinorl.tasks.rewards import Knobs
from dinorl.tasks.signals import ALTERNATION_MEMORY, DEBOUNCE_STEPS, Body, turn_phase

Vector = tuple[float, float, float]


@dataclass
class PlainMemory:
    """What the animal carries from one control step to the next; see :class:`dinorl.tasks.signals.Memory`."""

    start: tuple[float, float]
    target_distance: float
    phase: float
    action: np.ndarray
    steps: int = 0
    airborne: list[int] = field(default_factory=list)
    last_touchdown: list[int] = field(default_factory=list)
    alternation: list[float] = field(default_factory=list)
    nearest: float = math.inf
    event_steps: int = 0


@dataclass(slots=True)
class PlainSignals:
    """One control step of the animal, measured; see :class:`dinorl.tasks.signals.Signals`."""

    height: float
    position: tuple[float, float]
    heading: tuple[float, float]
    up_b: Vector
    pitch: float
    roll: float
    tilt: float
    velocity_h: Vector
    trunk_velocity_h: Vector
    angular_velocity_h: Vector
    tail_rate: float
    stance: list[float]
    touchdown: list[bool]
    air_time: list[float]
    foot_speed: list[float]
    power: float
    joint_position: np.ndarray
    action: np.ndarray
    action_change: np.ndarray
    target_h: Vector
    target_distance: float
    approach_speed: float
    effector_h: list[float]
    effector_distance: float
    event_distance: float
    nearest: float
    progress_speed: float
    event_steps: int
    alternation: list[float]
    phase: float
    drift: float


class Columns:
    """First columns of what is measured, as plain numbers."""

    def __init__(self, body: Body) -> None:
        at = body.layout
        self.trunk_pos, self.trunk_xaxis, self.trunk_zaxis = (
            int(columns[0]) for columns in (at.trunk_pos, at.trunk_xaxis, at.trunk_zaxis)
        )
        self.trunk_linvel, self.trunk_angvel, self.com_linvel, self.tail_angvel, self.target_pos = (
            int(columns[0])
            for columns in (at.trunk_linvel, at.trunk_angvel, at.com_linvel, at.tail_angvel, at.target_pos)
        )
        self.effector_pos = [int(columns[0]) for columns in at.effector_pos]
        self.foot_linvel = [int(columns[0]) for columns in at.foot_linvel]


def measure(
    body: Body, columns: Columns, memory: PlainMemory, substeps: np.ndarray, qpos: np.ndarray, action: np.ndarray
) -> PlainSignals:
    """Measure one control step from its (k, sensors) readings; ``memory``'s clock is already advanced."""
    at = body.layout
    v = substeps[-1].tolist()
    x, y, z = v[columns.trunk_pos : columns.trunk_pos + 3]
    x0, x1, x2 = v[columns.trunk_xaxis : columns.trunk_xaxis + 3]
    z0, z1, z2 = v[columns.trunk_zaxis : columns.trunk_zaxis + 3]
    flat = max(math.hypot(x0, x1), 1e-9)
    cos, sin = x0 / flat, x1 / flat

    def to_heading(a: float, b: float, c: float) -> Vector:
        return cos * a + sin * b, cos * b - sin * a, c

    up_y = z0 * x1 - z1 * x0
    target = v[columns.target_pos : columns.target_pos + 3]
    target_h = to_heading(target[0] - x, target[1] - y, target[2] - z)
    distance = math.hypot(target_h[0], target_h[1])
    effector_h: list[float] = []
    for start in columns.effector_pos:
        a, b, c = v[start : start + 3]
        effector_h += to_heading(target[0] - a, target[1] - b, target[2] - c)
    reach = substeps[:, at.target_distance]
    stance = (substeps[:, at.foot_touch] > body.load_threshold).mean(axis=0).tolist()
    power = np.abs(substeps[:, at.servo_force] * substeps[:, at.servo_velocity]).sum() / len(substeps)
    return PlainSignals(
        height=z,
        position=(x, y),
        heading=(cos, sin),
        up_b=(x2, up_y, z2),
        pitch=math.asin(min(max(-x2, -1.0), 1.0)),
        roll=math.atan2(-up_y, z2),
        tilt=math.acos(min(max(z2, -1.0), 1.0)),
        velocity_h=to_heading(*v[columns.com_linvel : columns.com_linvel + 3]),
        trunk_velocity_h=to_heading(*v[columns.trunk_linvel : columns.trunk_linvel + 3]),
        angular_velocity_h=to_heading(*v[columns.trunk_angvel : columns.trunk_angvel + 3]),
        tail_rate=math.hypot(*v[columns.tail_angvel : columns.tail_angvel + 3]),
        stance=stance,
        touchdown=[share > 0.0 and air >= DEBOUNCE_STEPS for share, air in zip(stance, memory.airborne, strict=True)],
        air_time=[air * body.dt for air in memory.airborne],
        foot_speed=[math.hypot(*v[start : start + 2]) for start in columns.foot_linvel],
        power=float(power),
        joint_position=qpos[body.joint_qpos] - body.home_joints,
        action=action,
        action_change=action - memory.action,
        target_h=target_h,
        target_distance=distance,
        approach_speed=(memory.target_distance - distance) / body.dt,
        effector_h=effector_h,
        effector_distance=float(reach[-1].min()),
        event_distance=(closest := float(reach.min())),
        nearest=(nearest := min(memory.nearest, max(closest, 0.0))),
        progress_speed=(memory.nearest - nearest) / body.dt,
        event_steps=memory.event_steps + 1 if memory.event_steps or closest <= body.event_threshold else 0,
        alternation=memory.alternation,
        phase=memory.phase,
        drift=math.hypot(x - memory.start[0], y - memory.start[1]),
    )


def take_turns(body: Body, memory: PlainMemory, s: PlainSignals) -> None:
    """Update in ``memory`` how evenly the feet of each pair take turns, and how long each foot has been in the air."""
    down = s.touchdown
    before = memory.last_touchdown
    after = [memory.steps if lands else last for lands, last in zip(down, before, strict=True)]
    for pair, (left, right) in enumerate(body.foot_pairs):
        share = memory.alternation[pair] * (1.0 - body.dt / ALTERNATION_MEMORY)
        for own, other in ((left, right), (right, left)):
            if down[own] and before[own] >= 0:
                phase = turn_phase(memory.steps, before[own], after[other])
                share = 0.5 * (share + math.sin(math.pi * max(0.5 - abs(phase - 0.5), 0.0)) ** 2)
        memory.alternation[pair] = share
    memory.last_touchdown = after
    memory.airborne = [0 if share > 0.0 else air + 1 for share, air in zip(s.stance, memory.airborne, strict=True)]


def fallen(s: PlainSignals, env: EnvConfig) -> bool:
    """Return whether the animal is down, as :func:`dinorl.tasks.episode.fallen` says of a batch."""
    low, high = env.healthy_z_range
    nosedive = env.nosedive_termination_threshold
    return (
        not low <= s.height <= high
        or s.tilt > env.max_tilt_angle
        or (nosedive is not None and s.pitch - env.natural_pitch > nosedive)
    )


def observe(s: PlainSignals, joint_velocity: np.ndarray, out: np.ndarray) -> None:
    """Write the observation into ``out``, in the order of :func:`dinorl.tasks.observation.pieces`."""
    n, feet = len(s.action), len(s.stance)
    phase = 2.0 * math.pi * s.phase
    away = max(s.target_distance, 1e-6)
    far, near = observation.TARGET_FAR, observation.EFFECTOR_FAR
    out[:10] = (s.height, *s.up_b, *s.trunk_velocity_h, *s.angular_velocity_h)
    out[10 : 10 + n] = s.joint_position
    out[10 + n : 10 + 2 * n] = joint_velocity * observation.JOINT_VELOCITY_SCALE
    out[10 + 2 * n : 10 + 3 * n] = s.action
    rest = 10 + 3 * n
    out[rest : rest + feet] = s.stance
    out[rest + feet :] = (
        math.cos(phase),
        math.sin(phase),
        s.target_h[0] / away,
        s.target_h[1] / away,
        min(s.target_distance, far) / far,
        s.target_h[2],
        *(min(max(value, -near), near) for value in s.effector_h),
    )


PlainTerm = Callable[[PlainSignals, Knobs], float]


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _bell(error: float, width: float) -> float:
    return math.exp(-0.5 * (error / width) ** 2)


def _gait_speed(s: PlainSignals, k: Knobs) -> float:
    return _clip(s.velocity_h[0] / k.gait_full_speed, 0.0, 1.0)


def _gait_clock(s: PlainSignals, k: Knobs) -> float:
    middle = 0.5 * k.gait_clock_duty
    total = 0.0
    for stance, lag in zip(s.stance, k.gait_phase, strict=True):
        off = abs(((s.phase - lag) % 1.0 - middle + 0.5) % 1.0 - 0.5)
        total += 1.0 - 2.0 * abs(stance - _clip((middle - off) / terms.CLOCK_EDGE + 0.5, 0.0, 1.0))
    return total / len(s.stance) * _gait_speed(s, k)


def _short_swing_penalty(s: PlainSignals, k: Knobs) -> float:
    missing = [_clip(k.gait_swing - air, 0.0, k.gait_swing) / max(k.gait_swing, 1e-9) for air in s.air_time]
    return -_mean([down * short for down, short in zip(s.touchdown, missing, strict=True)])


def _posture(s: PlainSignals, k: Knobs) -> float:
    return math.exp(-((s.pitch - k.natural_pitch) ** 2 + s.roll**2) / (2.0 * terms.POSTURE_WIDTH**2))


def _approach(s: PlainSignals, k: Knobs) -> float:
    limit = min(k.forward_vel_max, 10.0)
    return _clip(s.approach_speed, -limit, limit)


# The terms of dinorl.tasks.terms, by the same keys.
TERMS: dict[str, PlainTerm] = {
    "alive_bonus": lambda s, k: 1.0 - k.foot_contact_gate * (1.0 - _mean(s.stance)),
    "forward_vel_weight": lambda s, k: _clip(s.velocity_h[0], 0.0, k.forward_vel_max),
    "backward_vel_penalty_weight": lambda s, k: _clip(s.velocity_h[0], -10.0, 0.0),
    "lateral_penalty_weight": lambda s, k: -abs(s.velocity_h[1]),
    "heading_weight": lambda s, k: s.target_h[0] / max(s.target_distance, 1e-6) - 1.0,
    "posture_weight": _posture,
    "nosedive_weight": lambda s, k: -_clip(s.pitch - k.natural_pitch, 0.0, 2.0),
    "height_weight": lambda s, k: _bell(s.height - k.home_height, terms.HEIGHT_WIDTH * k.home_height),
    "foot_contact_weight": lambda s, k: _mean(s.stance),
    "drift_penalty_weight": lambda s, k: -min(s.drift, 5.0),
    "speed_penalty_weight": lambda s, k: (
        -_clip(math.hypot(s.velocity_h[0], s.velocity_h[1]) - k.speed_penalty_threshold, 0.0, 10.0)
    ),
    "spin_penalty_weight": lambda s, k: -min(abs(s.angular_velocity_h[2]), 10.0),
    "tail_stability_weight": lambda s, k: -min(s.tail_rate, 10.0),
    "gait_stability_weight": lambda s, k: -min(s.angular_velocity_h[0] ** 2 + s.angular_velocity_h[1] ** 2, 10.0),
    "gait_symmetry_weight": lambda s, k: _mean(s.alternation) * _gait_speed(s, k),
    "gait_clock_weight": _gait_clock,
    "foot_slip_penalty_weight": lambda s, k: (
        -min(sum(share * speed for share, speed in zip(s.stance, s.foot_speed, strict=True)) / len(s.stance), 10.0)
    ),
    "short_swing_penalty_weight": _short_swing_penalty,
    "smoothness_weight": lambda s, k: -float(s.action_change @ s.action_change) / len(s.action_change),
    "energy_penalty_weight": lambda s, k: -min(s.power / k.weight_newton, 100.0),
    "idle_penalty_weight": lambda s, k: _clip(s.velocity_h[0] / max(k.idle_velocity_threshold, 1e-6), 0.0, 1.0) - 1.0,
}
EVENT_TERMS: dict[str, PlainTerm] = {
    "bonus": lambda s, k: float(s.event_steps == 1),
    "approach_weight": _approach,
    "progress_weight": lambda s, k: _clip(s.progress_speed, 0.0, min(k.forward_vel_max, 10.0)),
    "proximity_weight": lambda s, k: _bell(s.target_distance, terms.TRUNK_PROXIMITY),
    "effector_proximity_weight": lambda s, k: _bell(_clip(s.effector_distance, 0.0, 100.0), terms.EFFECTOR_PROXIMITY),
}
