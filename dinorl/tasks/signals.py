"""Signals: sensor readings in the animal's heading frame.

The heading frame sits at the trunk; x is the nose direction laid flat, z is up. Suffix ``_h``: heading frame, ``_w``:
world. Everything is (n, …); lengths m, speeds m/s, angles rad. Arrays keep the inputs' namespace, dtype and device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from dinorl.tasks import lean_numpy
from dinorl.tasks.body import Array, Body, namespace, pick

Record = TypeVar("Record", "Memory", "Signals")

# Control steps; touch sensors flicker.
DEBOUNCE_STEPS = 3
# s, about two strides of a walk.
ALTERNATION_MEMORY = 1.5


@dataclass(frozen=True)
class Memory:
    """State between control steps; :func:`fresh_memory` sets it at reset."""

    steps: Array  # (n,) control steps since reset
    start_w: Array  # (n, 2) start of the episode
    action: Array  # (n, actuators) last filtered action
    airborne: Array  # (n, feet) control steps without load
    last_touchdown: Array  # (n, feet) control step; -1: none yet
    alternation: Array  # (n, pairs) running mean, 0..1
    phase: Array  # (n,) gait clock, cycles
    target_distance: Array  # (n,) horizontal, one step ago
    nearest: Array  # (n,) closest effector distance so far, ≥ 0
    event_steps: Array  # (n,) control steps since the event, inclusive


@dataclass(frozen=True)
class Signals:
    """Measurements of one control step."""

    xp: Any  # array namespace
    height: Array  # (n,) trunk above the ground
    up_b: Array  # (n, 3) up in the trunk's frame
    pitch: Array  # (n,) nose down positive
    roll: Array  # (n,) right side down positive
    tilt: Array  # (n,) trunk's up axis to vertical
    position_w: Array  # (n, 2) trunk
    heading_w: Array  # (n, 2) unit, nose laid flat
    velocity_h: Array  # (n, 3) centre of mass
    trunk_velocity_h: Array  # (n, 3)
    angular_velocity_h: Array  # (n, 3)
    tail_rate: Array  # (n,) rad/s of the tail's tip
    contact: Array  # (n, feet) bool, at any physics step
    stance: Array  # (n, feet) share of the control step
    touchdown: Array  # (n, feet) bool, debounced
    air_time: Array  # (n, feet) s before this step
    foot_speed: Array  # (n, feet) horizontal
    power: Array  # (n,) W, mean absolute servo power
    joint_position: Array  # (n, actuators) from home
    joint_velocity: Array  # (n, actuators)
    action: Array  # (n, actuators) filtered
    action_change: Array  # (n, actuators) since the last step
    target_h: Array  # (n, 3) trunk to target
    target_distance: Array  # (n,) horizontal
    approach_speed: Array  # (n,) towards the target
    effector_h: Array  # (n, effectors, 3) to the target
    effector_distance: Array  # (n,) nearest effector to target's surface
    nearest: Array  # (n,) after this step
    progress_speed: Array  # (n,) shrinking of nearest, ≥ 0
    event_steps: Array  # (n,) after this step
    last_touchdown: Array  # (n, feet) after this step
    alternation: Array  # (n, pairs) after this step
    phase: Array  # (n,) gait clock, cycles
    drift: Array  # (n,) horizontal, from the start


def rows(record: Record, ids: Array) -> Record:
    """Return the record of the (m,) named animals."""
    taken = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(
        record,
        **{name: namespace(value).take(value, ids, axis=0) for name, value in taken.items() if name != "xp"},
    )


def to_heading(vector_w: Array, heading_w: Array) -> Array:
    """Rotate (n, …, 3) world vectors into the heading frame of (n, 2)."""
    xp = namespace(vector_w)
    shape = (-1,) + (1,) * (vector_w.ndim - 2)
    cos, sin = xp.reshape(heading_w[:, 0], shape), xp.reshape(heading_w[:, 1], shape)
    x, y = vector_w[..., 0], vector_w[..., 1]
    return xp.stack([cos * x + sin * y, cos * y - sin * x, vector_w[..., 2]], axis=-1)


def fresh_memory(body: Body, sensors: Array, actuators: int, phase: Array) -> Memory:
    """Return the memory after a reset, from (n, sensors) readings and the first (n,) clock phase."""
    xp = namespace(sensors)
    n, feet, pairs = sensors.shape[0], body.gait_phase.shape[0], len(body.foot_pairs)
    real = {"dtype": sensors.dtype, "device": sensors.device}
    whole = {"dtype": xp.int64, "device": sensors.device}
    position, target = sensors[:, body.layout.trunk_pos], sensors[:, body.layout.target_pos]
    return Memory(
        steps=xp.zeros(n, **whole),
        start_w=xp.asarray(position[:, :2], copy=True),
        action=xp.zeros((n, actuators), **real),
        airborne=xp.zeros((n, feet), **whole),
        last_touchdown=xp.full((n, feet), -1, **whole),
        alternation=xp.zeros((n, pairs), **real),
        phase=phase,
        target_distance=_norm((target - position)[:, :2]),
        nearest=xp.clip(_least(pick(sensors, body.layout.target_distance)), 0.0, xp.inf),
        event_steps=xp.zeros(n, **whole),
    )


def measure(
    body: Body, memory: Memory, sensors: Array, substeps: Array, qpos: Array, qvel: Array, action: Array
) -> Signals:
    """Measure one control step.

    Args:
        body: the animal.
        memory: before the step, its clock already advanced.
        sensors: (n, sensors) readings at the end of the step.
        substeps: (n, k, sensors) readings at each physics step.
        qpos, qvel: (n, nq), (n, nv) at the end.
        action: (n, actuators) applied during it.

    Returns:
        Copies: no view of ``sensors``, ``substeps``, ``qpos`` or ``qvel``.
    """
    xp = namespace(sensors)
    trunk = _measure_trunk(body, memory, sensors)
    seen_h = _rotate(body, sensors, trunk["heading_w"])
    return Signals(
        xp=xp,
        **trunk,
        velocity_h=seen_h[:, 0, :],
        trunk_velocity_h=seen_h[:, 1, :],
        angular_velocity_h=seen_h[:, 2, :],
        **_measure_feet(body, memory, sensors, substeps),
        target_h=seen_h[:, 3, :],
        effector_h=seen_h[:, 4:, :],
        **_measure_target(body, memory, sensors, substeps, seen_h[:, 3, :2]),
        power=_power(body, substeps),
        joint_position=pick(qpos, body.joint_qpos) - body.home_joints,
        joint_velocity=xp.asarray(pick(qvel, body.joint_qvel), copy=True),
        action=action,
        action_change=action - memory.action,
        phase=memory.phase,
    )


def _measure_trunk(body: Body, memory: Memory, sensors: Array) -> dict[str, Array]:
    """Return pose and motion of the trunk."""
    xp, at = namespace(sensors), body.layout
    position = xp.asarray(sensors[:, at.trunk_pos], copy=True)
    xaxis, zaxis = sensors[:, at.trunk_xaxis], sensors[:, at.trunk_zaxis]
    flat = xaxis[:, :2]
    heading = flat / xp.clip(_norm(flat), 1e-9, xp.inf)[:, None]
    # y axis: z cross x
    up_y = zaxis[:, 0] * xaxis[:, 1] - zaxis[:, 1] * xaxis[:, 0]
    up_b = xp.stack([xaxis[:, 2], up_y, zaxis[:, 2]], axis=-1)
    return {
        "height": position[:, 2],
        "up_b": up_b,
        "pitch": xp.asin(xp.clip(-up_b[:, 0], -1.0, 1.0)),
        "roll": xp.atan2(-up_b[:, 1], up_b[:, 2]),
        "tilt": xp.acos(xp.clip(up_b[:, 2], -1.0, 1.0)),
        "position_w": position[:, :2],
        "heading_w": heading,
        "tail_rate": _norm(sensors[:, at.tail_angvel]),
        "drift": _norm(position[:, :2] - memory.start_w),
    }


def _rotate(body: Body, sensors: Array, heading_w: Array) -> Array:
    """Return (n, 4 + effectors, 3) in the heading frame: velocities of centre of mass and trunk, angular velocity,
    trunk to target, effectors to target.
    """
    at = body.layout
    target = sensors[:, at.target_pos]
    vectors = [sensors[:, at.com_linvel], sensors[:, at.trunk_linvel], sensors[:, at.trunk_angvel]]
    vectors += [target - sensors[:, place] for place in (at.trunk_pos, *at.effector_pos)]
    # at once: a call takes longer than a rotation
    return to_heading(namespace(sensors).stack(vectors, axis=1), heading_w)


def _measure_feet(body: Body, memory: Memory, sensors: Array, substeps: Array) -> dict[str, Array]:
    """Return the feet's contacts, speeds and alternation."""
    xp, at = namespace(sensors), body.layout
    stance = _share(pick(substeps, at.foot_touch) > body.load_threshold, sensors.dtype)
    contact = stance > 0.0
    touchdown = contact & (memory.airborne >= DEBOUNCE_STEPS)
    last_touchdown, alternation = take_turns(body, memory, touchdown)
    return {
        "contact": contact,
        "stance": stance,
        "touchdown": touchdown,
        "air_time": xp.astype(memory.airborne, sensors.dtype) * body.dt,
        "foot_speed": _norm(xp.stack([sensors[:, foot] for foot in at.foot_linvel], axis=1)[..., :2]),
        "last_touchdown": last_touchdown,
        "alternation": alternation,
    }


def _measure_target(body: Body, memory: Memory, sensors: Array, substeps: Array, flat_h: Array) -> dict[str, Array]:
    """Return distances and closing speeds to the target, given its (n, 2) horizontal place."""
    xp, at = namespace(sensors), body.layout
    distance = _norm(flat_h)
    now = _least(pick(sensors, at.target_distance))
    closest = xp.minimum(now, _least(pick(substeps, at.target_distance)))
    nearest = xp.minimum(memory.nearest, xp.clip(closest, 0.0, xp.inf))
    return {
        "target_distance": distance,
        "approach_speed": (memory.target_distance - distance) / body.dt,
        "effector_distance": now,
        "nearest": nearest,
        "progress_speed": (memory.nearest - nearest) / body.dt,
        "event_steps": count_event(memory.event_steps, closest, body.event_threshold),
    }


def _power(body: Body, substeps: Array) -> Array:
    """Return (n,) mean mechanical power of the servos, W."""
    xp, at = namespace(substeps), body.layout
    power = xp.abs(pick(substeps, at.servo_force) * pick(substeps, at.servo_velocity))
    return xp.sum(power, axis=(1, 2)) / power.shape[1]


def remember(memory: Memory, signals: Signals) -> Memory:
    """Return the memory for the next step."""
    xp = signals.xp

    def own(array: Array) -> Array:
        return xp.asarray(array, copy=True)  # resets write into the memory

    return Memory(
        steps=memory.steps,
        start_w=memory.start_w,
        action=own(signals.action),
        airborne=xp.where(signals.contact, xp.zeros_like(memory.airborne), memory.airborne + 1),
        last_touchdown=own(signals.last_touchdown),
        alternation=own(signals.alternation),
        phase=own(signals.phase),
        target_distance=own(signals.target_distance),
        nearest=own(signals.nearest),
        event_steps=own(signals.event_steps),
    )


def count_event(steps: Array, distance: Array, threshold: float) -> Array:
    """Return (n,) control steps since the event, inclusive, from the count before and this step's distances."""
    return namespace(distance).where((steps > 0) | (distance <= threshold), steps + 1, 0)


def tick(body: Body, memory: Memory, frequency: float) -> Memory:
    """Advance the step counter and the gait clock (Hz) by one control step."""
    return replace(memory, steps=memory.steps + 1, phase=(memory.phase + frequency * body.dt) % 1.0)


def turn_phase(step: Array, own: Array, other: Array) -> Array:
    """Return the phase of the other foot's last touchdown, in cycles before the stride's end.

    0.5: the feet alternate; 0: they land together; above 1: the other foot has not landed in this stride.

    Args:
        step: control step of the touchdown that ends the stride.
        own: control step of the touchdown that began the stride.
        other: control step of the other foot's last touchdown, this step included; -1 if there was none.
    """
    stride = step - own
    return (step - other) / namespace(own).where(stride == 0, 1, stride)  # 0: the same touchdown


def take_turns(body: Body, memory: Memory, touchdown: Array) -> tuple[Array, Array]:
    """Return (n, feet) last touchdowns and (n, pairs) running alternation, after a step.

    A touchdown counts ``sin²(πφ)``, with φ of :func:`turn_phase`: 1 if the other foot landed halfway through the
    stride, 0 if both land together or the same foot lands again. Without touchdowns it decays to 0.
    """
    xp = namespace(touchdown)
    real = memory.alternation.dtype
    share = memory.alternation * (1.0 - body.dt / ALTERNATION_MEMORY)
    if xp is lean_numpy and not xp.any(touchdown):  # on a device, asking would wait for it
        return memory.last_touchdown, share
    step = memory.steps[:, None]
    before, after = memory.last_touchdown, xp.where(touchdown, step, memory.last_touchdown)
    left, right = ([pair[side] for pair in body.foot_pairs] for side in (0, 1))
    own, other = left + right, right + left
    phase = turn_phase(xp.astype(step, real), xp.astype(_feet(before, own), real), xp.astype(_feet(after, other), real))
    even = xp.sin(xp.pi * xp.clip(0.5 - xp.abs(phase - 0.5), 0.0, 0.5)) ** 2
    ends = _feet(touchdown & (before >= 0), own)
    for side in (slice(len(left)), slice(len(left), None)):
        share = xp.where(ends[:, side], 0.5 * (share + even[:, side]), share)
    return after, share


def _feet(array: Array, order: Sequence[int]) -> Array:
    return namespace(array).stack([array[:, foot] for foot in order], axis=1)


def _share(happened: Array, dtype: Any) -> Array:
    """Return the (n, m) mean of (n, k, m) bool over the physics steps."""
    xp = namespace(happened)
    k = happened.shape[1]
    shares = xp.astype(happened, dtype)
    total = shares[:, 0, :]
    for i in range(1, k):  # faster than mean
        total = total + shares[:, i, :]
    return total / k


def _least(distances: Array) -> Array:
    """Return the (n,) minimum of (n, …), a copy."""
    xp = namespace(distances)
    flat = xp.reshape(distances, (distances.shape[0], -1))
    least = xp.asarray(flat[:, 0], copy=True)
    for i in range(1, flat.shape[1]):  # 10 times faster than min
        least = xp.minimum(least, flat[:, i])
    return least


def _norm(vector: Array) -> Array:
    squares = vector * vector
    total = squares[..., 0]
    for i in range(1, vector.shape[-1]):  # 3 times faster than sum
        total = total + squares[..., i]
    return namespace(vector).sqrt(total)
