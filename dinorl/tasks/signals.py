"""What the tasks look at: sensor readings turned into quantities of the animal's heading frame.

The heading frame sits at the trunk, its x axis is the trunk's nose direction laid flat, its z axis is up. Suffix ``_h``
means expressed in it, ``_w`` the world. Everything is (n, …); lengths m, speeds m/s, angles rad. The functions take
their array namespace from their inputs, so one definition serves every array library.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from dinorl.sim.model import Layout

Array = Any


@dataclass(frozen=True)
class Memory:
    """What an animal carries from one control step to the next; all of it is set by :func:`fresh_memory` at reset."""

    steps: Array  # (n,) control steps since reset
    start_w: Array  # (n, 2) where the episode began
    action: Array  # (n, actuators) what the servos were told last: the last action, filtered
    airborne: Array  # (n, feet) control steps since the foot last bore load; 0 while it does
    last_touchdown: Array  # (n, feet) control step in which the foot last landed, -1 before it did
    alternation: Array  # (n, pairs) running evenness of the feet's turns, 0..1, decaying
    phase: Array  # (n,) gait clock, cycles
    target_distance: Array  # (n,) horizontal distance to the target, the step before
    nearest: Array  # (n,) smallest distance from an effector to this target's surface so far, not below 0
    event_steps: Array  # (n,) control steps since the event, its own included; 0 before it


@dataclass(frozen=True)
class Signals:
    """One control step of every animal, measured."""

    xp: Any  # array namespace
    height: Array  # (n,) trunk above the ground
    up_b: Array  # (n, 3) the vertical in the trunk's frame: (0, 0, 1) when upright
    pitch: Array  # (n,) nose down positive
    roll: Array  # (n,) right side down positive
    tilt: Array  # (n,) angle between the trunk's up axis and the vertical
    position_w: Array  # (n, 2) trunk
    heading_w: Array  # (n, 2) unit vector of the nose, laid flat
    velocity_h: Array  # (n, 3) centre of mass
    trunk_velocity_h: Array  # (n, 3)
    angular_velocity_h: Array  # (n, 3)
    tail_rate: Array  # (n,) rad/s of the tail's tip
    contact: Array  # (n, feet) bool, the foot bore load at some time in the control step
    stance: Array  # (n, feet) share of the control step in which it did
    touchdown: Array  # (n, feet) bool, it landed in this control step after being in the air (debounced)
    air_time: Array  # (n, feet) s for which it was in the air before this control step; 0 if it bore load in the last
    foot_speed: Array  # (n, feet) horizontal
    power: Array  # (n,) W, mean absolute mechanical power of the servos over the control step
    joint_position: Array  # (n, actuators) from home
    joint_velocity: Array  # (n, actuators)
    action: Array  # (n, actuators) what the servos are told: the action, filtered
    action_change: Array  # (n, actuators) since the last control step
    target_h: Array  # (n, 3) from the trunk to the target
    target_distance: Array  # (n,) horizontal
    approach_speed: Array  # (n,) by which that distance shrinks
    effector_h: Array  # (n, effectors, 3) from each effector to the target
    effector_distance: Array  # (n,) from the nearest effector to the target's surface, now
    event_distance: Array  # (n,) the smallest such distance in the whole control step
    nearest: Array  # (n,) as in the memory, this step included
    progress_speed: Array  # (n,) by which the nearest distance shrank in this step, never negative
    event_steps: Array  # (n,) as in the memory, this step included
    last_touchdown: Array  # (n, feet) as in the memory, this step's touchdowns included
    alternation: Array  # (n, pairs) likewise
    phase: Array  # (n,) gait clock, cycles
    drift: Array  # (n,) horizontal distance from the start


@dataclass(frozen=True)
class Body:
    """Constants of an animal that measuring needs."""

    layout: Layout
    home_joints: Array  # (actuators,)
    joint_qpos: Array  # (actuators,) columns of qpos
    joint_qvel: Array  # (actuators,) columns of qvel
    load_threshold: float  # N, a foot bearing more than this is in contact
    dt: float  # s, control step
    event_threshold: float  # m, the event happens when an effector is as close to the target's surface
    foot_pairs: tuple[tuple[int, int], ...]  # left and right foot of each girdle


# A foot must have been in the air this many control steps for its next contact to count as a touchdown: touch
# sensors flicker within a stance, most of all when the toes leave the ground.
DEBOUNCE_STEPS = 3
# Time in which the running alternation forgets, s: about two strides of a walk.
ALTERNATION_MEMORY = 1.5


def namespace(array: Array) -> Any:
    """Return the array's namespace: NumPy's own, which meets the standard and calls faster than its wrapper."""
    return np if isinstance(array, np.ndarray) else array_namespace(array)


def rows(record: Any, ids: Array) -> Any:
    """Return the same record for the named animals alone."""
    taken = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(record, **{name: value[ids] for name, value in taken.items() if name != "xp"})


def to_heading(vector_w: Array, heading_w: Array) -> Array:
    """Rotate (n, …, 3) world vectors into the heading frame of (n, 2)."""
    xp = namespace(vector_w)
    shape = (-1,) + (1,) * (vector_w.ndim - 2)
    cos, sin = xp.reshape(heading_w[:, 0], shape), xp.reshape(heading_w[:, 1], shape)
    x, y = vector_w[..., 0], vector_w[..., 1]
    return xp.stack([cos * x + sin * y, cos * y - sin * x, vector_w[..., 2]], axis=-1)


def fresh_memory(body: Body, sensors: Array, actuators: int, phase: Array) -> Memory:
    """Return the memory of animals that were just reset, from their (n, sensors) readings and first clock phase."""
    xp = namespace(sensors)
    n, feet = sensors.shape[0], len(body.layout.foot_touch)
    position, target = sensors[:, body.layout.trunk_pos], sensors[:, body.layout.target_pos]
    pairs = len(body.foot_pairs)
    return Memory(
        steps=xp.zeros(n, dtype=xp.int64),
        start_w=position[:, :2],
        action=xp.zeros((n, actuators)),
        airborne=xp.zeros((n, feet), dtype=xp.int64),
        last_touchdown=xp.full((n, feet), -1, dtype=xp.int64),
        alternation=xp.zeros((n, pairs)),
        phase=phase,
        target_distance=_norm(xp, (target - position)[:, :2]),
        nearest=xp.clip(xp.min(sensors[:, body.layout.target_distance], axis=1), 0.0, xp.inf),
        event_steps=xp.zeros(n, dtype=xp.int64),
    )


def measure(
    body: Body, memory: Memory, sensors: Array, substeps: Array, qpos: Array, qvel: Array, action: Array
) -> Signals:
    """Measure one control step.

    Args:
        body: the animal.
        memory: as it was before the step (its clock already advanced).
        sensors: (n, sensors) readings at the end of the step.
        substeps: (n, k, sensors) readings at each physics step of it.
        qpos, qvel: (n, nq), (n, nv) at the end.
        action: (n, actuators) applied during it.
    """
    xp = namespace(sensors)
    at = body.layout
    position, xaxis, zaxis = sensors[:, at.trunk_pos], sensors[:, at.trunk_xaxis], sensors[:, at.trunk_zaxis]
    flat = xaxis[:, :2]
    heading = flat / xp.maximum(_norm(xp, flat), xp.asarray(1e-9))[:, None]
    # third row of the trunk's rotation matrix; the y axis is z cross x
    up_y = zaxis[:, 0] * xaxis[:, 1] - zaxis[:, 1] * xaxis[:, 0]
    up_b = xp.stack([xaxis[:, 2], up_y, zaxis[:, 2]], axis=-1)

    touch = substeps[:, :, at.foot_touch] > body.load_threshold
    stance = xp.mean(xp.astype(touch, xp.float64), axis=1)
    contact = stance > 0.0
    touchdown = contact & (memory.airborne >= DEBOUNCE_STEPS)
    power = xp.abs(substeps[:, :, at.servo_force] * substeps[:, :, at.servo_velocity])
    motion = xp.stack([sensors[:, at.com_linvel], sensors[:, at.trunk_linvel], sensors[:, at.trunk_angvel]], axis=1)
    motion_h = to_heading(motion, heading)
    last_touchdown, alternation = take_turns(body, memory, touchdown)

    target = sensors[:, at.target_pos]
    target_h = to_heading(target - position, heading)
    distance = _norm(xp, target_h[:, :2])
    now = xp.min(sensors[:, at.target_distance], axis=1)
    closest = xp.minimum(now, xp.min(substeps[:, :, at.target_distance], axis=(1, 2)))
    nearest = xp.minimum(memory.nearest, xp.clip(closest, 0.0, xp.inf))
    return Signals(
        xp=xp,
        height=position[:, 2],
        up_b=up_b,
        pitch=xp.asin(xp.clip(-up_b[:, 0], -1.0, 1.0)),
        roll=xp.atan2(-up_b[:, 1], up_b[:, 2]),
        tilt=xp.acos(xp.clip(up_b[:, 2], -1.0, 1.0)),
        position_w=position[:, :2],
        heading_w=heading,
        velocity_h=motion_h[:, 0],
        trunk_velocity_h=motion_h[:, 1],
        angular_velocity_h=motion_h[:, 2],
        tail_rate=_norm(xp, sensors[:, at.tail_angvel]),
        contact=contact,
        stance=stance,
        touchdown=touchdown,
        air_time=memory.airborne * body.dt,
        foot_speed=_norm(xp, sensors[:, at.foot_linvel[:, :2]]),
        power=xp.sum(power, axis=(1, 2)) / power.shape[1],
        joint_position=qpos[:, body.joint_qpos] - body.home_joints,
        joint_velocity=qvel[:, body.joint_qvel],
        action=action,
        action_change=action - memory.action,
        target_h=target_h,
        target_distance=distance,
        approach_speed=(memory.target_distance - distance) / body.dt,
        effector_h=to_heading(target[:, None, :] - sensors[:, at.effector_pos], heading),
        effector_distance=now,
        event_distance=closest,
        nearest=nearest,
        progress_speed=(memory.nearest - nearest) / body.dt,
        event_steps=count_event(memory.event_steps, closest, body.event_threshold),
        last_touchdown=last_touchdown,
        alternation=alternation,
        phase=memory.phase,
        drift=_norm(xp, position[:, :2] - memory.start_w),
    )


def remember(body: Body, memory: Memory, signals: Signals) -> Memory:
    """Return the memory for the next step."""
    xp = signals.xp
    return replace(
        memory,
        action=xp.asarray(signals.action, copy=True),  # memory is written in place at resets, signals never
        airborne=xp.where(signals.contact, xp.zeros_like(memory.airborne), memory.airborne + 1),
        last_touchdown=xp.asarray(signals.last_touchdown, copy=True),
        alternation=xp.asarray(signals.alternation, copy=True),
        target_distance=xp.asarray(signals.target_distance, copy=True),
        nearest=xp.asarray(signals.nearest, copy=True),
        event_steps=xp.asarray(signals.event_steps, copy=True),
    )


def count_event(steps: Array, distance: Array, threshold: float) -> Array:
    """Return (n,) control steps since the event, its own included, from those before and this step's distances."""
    xp = namespace(distance)
    return xp.where((steps > 0) | (distance <= threshold), steps + 1, 0)


def tick(body: Body, memory: Memory, frequency: float) -> Memory:
    """Advance the step counter and the gait clock by one control step."""
    return replace(memory, steps=memory.steps + 1, phase=(memory.phase + frequency * body.dt) % 1.0)


def turn_phase(step: Any, own: Any, other: Any) -> Any:
    """Return where in the stride that a touchdown ends the girdle's other foot landed last, cycles before its end.

    0.5 is in turn, 0 at the same time; above 1 the other foot has not landed in this stride.

    Args:
        step: of the touchdown.
        own: step of the same foot's touchdown before, which began the stride.
        other: step of the other foot's last touchdown, this step included, -1 if there was none.
    """
    stride = step - own
    return (step - other) / (stride + (stride == 0))  # 0: a step that is measured once more, after its touchdown


def take_turns(body: Body, memory: Memory, touchdown: Array) -> tuple[Array, Array]:
    """Return when each foot landed last, and for each left-right pair the running evenness of its turns, after a step.

    A touchdown counts for ``sin²(πφ)``, with φ of :func:`turn_phase`: 1 if the other foot landed halfway through the
    stride, 0 if both land together or the same foot lands again. Without touchdowns all decays: standing after a walk
    earns nothing.
    """
    xp = namespace(touchdown)
    step = memory.steps[:, None]
    before, after = memory.last_touchdown, xp.where(touchdown, step, memory.last_touchdown)
    left, right = ([pair[side] for pair in body.foot_pairs] for side in (0, 1))
    own, other = left + right, right + left
    phase = turn_phase(step, before[:, own], after[:, other])
    even = xp.sin(xp.pi * xp.clip(0.5 - xp.abs(phase - 0.5), 0.0, 0.5)) ** 2
    ends = (touchdown & (before >= 0))[:, own]  # a stride
    share = memory.alternation * (1.0 - body.dt / ALTERNATION_MEMORY)
    for side in (slice(len(left)), slice(len(left), None)):
        share = xp.where(ends[:, side], 0.5 * (share + even[:, side]), share)
    return after, share


def _norm(xp: Any, vector: Array) -> Array:
    squares = vector * vector
    total = squares[..., 0]
    for i in range(1, vector.shape[-1]):  # two or three: a sum over so short an axis takes thrice as long
        total = total + squares[..., i]
    return xp.sqrt(total)
