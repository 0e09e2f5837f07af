"""The servos of a model: what each is, and whether an action means what it should.

Action 0 is the home pose, -1 and 1 are the limits of each joint: only position servos on limited hinge joints do that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import mujoco

from dinorl.sim.findings import Finding, about, doubt

PART = "servos"
POSITION = '<position name="…" joint="…" kp="…" kv="…" inheritrange="1"/>'
WIDEST = 2.5  # rad from home for an action of 1; above: a doubt
LEAST = 0.02  # rad; below, an action does nothing
CLOSE = 1e-3  # rad, between the numbers of a file
SAG = 0.05  # rad, between home pose and home command

_TRANSMISSIONS = {
    mujoco.mjtTrn.mjTRN_JOINT.value: "joint",
    mujoco.mjtTrn.mjTRN_JOINTINPARENT.value: "joint",
    mujoco.mjtTrn.mjTRN_TENDON.value: "tendon",
    mujoco.mjtTrn.mjTRN_SITE.value: "site",
    mujoco.mjtTrn.mjTRN_BODY.value: "body",
    mujoco.mjtTrn.mjTRN_SLIDERCRANK.value: "slider-crank",
}
_JOINTS = {
    mujoco.mjtJoint.mjJNT_HINGE.value: "hinge",
    mujoco.mjtJoint.mjJNT_SLIDE.value: "slide",
    mujoco.mjtJoint.mjJNT_BALL.value: "ball",
    mujoco.mjtJoint.mjJNT_FREE.value: "free",
}
_FILTERS = [getattr(mujoco.mjtDyn, f"mjDYN_{name}").value for name in ("NONE", "FILTER", "FILTEREXACT")]


@dataclass(frozen=True)
class Servo:
    """An actuator and its joint; angles rad."""

    name: str  # empty: it has none
    label: str  # name, or where it is
    kind: str  # position | velocity | motor | …
    drives: str  # hinge | slide | ball | free | tendon | site | …
    joint: int  # -1: it drives no joint
    gear: float
    limited: bool  # it has a ctrlrange
    low: float
    high: float
    joint_range: tuple[float, float] | None  # None: unlimited
    home: float | None  # command of the home pose; None: there is no such pose
    pose: float | None  # of its joint in the home pose

    @property
    def spans(self) -> tuple[float, float]:
        """How far actions of -1 and 1 move it from home."""
        home = self.home or 0.0
        return home - self.low, self.high - home

    @property
    def usable(self) -> bool:
        """Whether an action is a pose of its joint."""
        return self.kind == "position" and self.drives == "hinge" and self.limited and self.joint_range is not None


def servos_of(model: mujoco.MjModel) -> list[Servo]:
    """Return a model's actuators, in order."""
    key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY.value, "home")
    return [_servo(model, i, key) for i in range(model.nactuator)]


def _servo(model: mujoco.MjModel, i: int, key: int) -> Servo:
    name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_ACTUATOR.value, i) or ""
    drives = _TRANSMISSIONS.get(model.actuator_trntype[i], "unknown")
    joint = int(model.actuator_trnid[i, 0]) if drives == "joint" else -1
    where = drives
    if joint >= 0:
        drives = _JOINTS[model.jnt_type[joint]]
        where = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT.value, joint) or f"joint {joint}"
    hinged = joint >= 0 and drives == "hinge"
    command = int(model.actuator_ctrladr[i])
    low, high = model.actuator_ctrlrange[i].tolist()
    return Servo(
        name=name,
        label=name or f"actuator {i} on {where}",
        kind=_kind(model, i),
        drives=drives,
        joint=joint,
        gear=float(model.actuator_gear[i, 0]),
        limited=bool(model.actuator_ctrllimited[i]) and low < high,
        low=low,
        high=high,
        joint_range=tuple(model.jnt_range[joint].tolist()) if hinged and model.jnt_limited[joint] else None,
        home=float(model.key_ctrl[key, command]) if key >= 0 else None,
        pose=float(model.key_qpos[key, model.jnt_qposadr[joint]]) if key >= 0 and hinged else None,
    )


def _kind(model: mujoco.MjModel, i: int) -> str:
    """Return the MJCF element that makes such an actuator; ``general`` if none does."""
    gain, bias, dynamics = model.actuator_gaintype[i], model.actuator_biastype[i], model.actuator_dyntype[i]
    kp, (_, stiffness, damping) = float(model.actuator_gainprm[i, 0]), model.actuator_biasprm[i, :3].tolist()
    fixed, affine = gain == mujoco.mjtGain.mjGAIN_FIXED.value, bias == mujoco.mjtBias.mjBIAS_AFFINE.value
    if fixed and affine and kp > 0.0:
        if math.isclose(stiffness, -kp):
            return "position" if dynamics in _FILTERS else "intvelocity"
        if stiffness == 0.0 and math.isclose(damping, -kp):
            return "velocity"
    if gain == mujoco.mjtGain.mjGAIN_MUSCLE.value:
        return "muscle"
    if fixed and kp != 0.0 and bias == mujoco.mjtBias.mjBIAS_NONE.value and dynamics == mujoco.mjtDyn.mjDYN_NONE.value:
        return "motor"
    return "general"


def check_servos(model: mujoco.MjModel) -> Iterator[Finding]:
    """Yield what is wrong with a model's servos."""
    servos = servos_of(model)
    if not servos:
        yield Finding(
            PART, "found none; nothing moves", 'Type <position name="…" joint="…" kp="…" kv="…"/> in <actuator>'
        )
    unnamed = [s.label for s in servos if not s.name]
    yield from about(PART, unnamed, "no name; its sensors go by it", 'Type name="…" there, such as its joint\'s')
    yield from _check_kinds(servos)
    yield from _check_ranges(servos)
    yield from _check_home([s for s in servos if s.usable and s.home is not None])
    yield from _check_joints(model, servos)


def _check_kinds(servos: list[Servo]) -> Iterator[Finding]:
    """Yield actuators that are no position servos on hinge joints."""
    for kind in sorted({s.kind for s in servos} - {"position"}):
        found = [s.label for s in servos if s.kind == kind]
        problem = f"found <{kind}>, expected <position>: an action is a pose"
        yield from about(PART, found, problem, f"Type {POSITION} instead")
    for drives in sorted({s.drives for s in servos} - {"hinge"}):
        found = [s.label for s in servos if s.drives == drives]
        what = f"{drives} joint" if drives in _JOINTS.values() else drives
        hint = 'Type joint="…" of a hinge joint, or leave the actuator out'
        yield from about(PART, found, f"found a {what}, expected a hinge joint: angles are rad", hint)


def _check_ranges(servos: list[Servo]) -> Iterator[Finding]:
    """Yield servos without limits, or with others than their joint's."""
    positions = [s for s in servos if s.kind == "position" and s.drives == "hinge"]
    free = [s.label for s in positions if s.joint_range is None]
    yield from about(PART, free, "its joint has no limits", 'Type range="-0.8 0.8" on the joint')
    unlimited = [s.label for s in positions if not s.limited]
    yield from about(PART, unlimited, "no ctrlrange; actions do nothing", 'Type inheritrange="1" on the servo')
    usable = [s for s in positions if s.usable]
    beyond = [s.label for s in usable if s.joint_range and _beyond(s, s.joint_range) > LEAST]
    yield from about(
        PART, beyond, "ctrlrange goes beyond the joint's range", 'Type inheritrange="1" instead of it', fault=False
    )
    geared = [s.label for s in usable if abs(s.gear - 1.0) > CLOSE]
    yield from about(PART, geared, "gear is not 1, so a command is no angle", "Remove gear, and scale kp by its square")


def _beyond(servo: Servo, joint_range: tuple[float, float]) -> float:
    return max(joint_range[0] - servo.low, servo.high - joint_range[1])


def _check_home(servos: list[Servo]) -> Iterator[Finding]:
    """Yield servos whose home is out of range or far from a limit."""
    out = [s for s in servos if not s.low - CLOSE <= (s.home or 0.0) <= s.high + CLOSE]
    hint = "Type ctrl in <key name='home'> within the range"
    yield from about(PART, [s.label for s in out], "the home command is out of its ctrlrange", hint)
    posed = [s for s in servos if s.joint_range and not _within(s.pose or 0.0, s.joint_range)]
    yield from about(
        PART, [s.label for s in posed], "the home pose is out of its joint's range",
        "Type qpos in <key name='home'> within the range",
    )  # fmt: skip
    inside = [s for s in servos if s not in out and s not in posed]
    moved = [f"{s.label} {s.pose:g} → {s.home:g}" for s in inside if abs((s.pose or 0.0) - (s.home or 0.0)) > SAG]
    yield from about(
        PART, moved, "action 0 moves it away from the home pose", "Type its qpos as ctrl in <key name='home'>", False
    )
    wide = [f"{s.label} {max(s.spans):.1f} rad" for s in inside if max(s.spans) > WIDEST]
    yield from about(PART, wide, "an action of 1 moves it that far from home", "Narrow the joint's range", False)
    stuck = [s.label for s in inside if min(s.spans) < LEAST]
    yield from about(
        PART, stuck, "home is its limit: actions of one sign do nothing", "Move home or the joint's range", False
    )


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] - CLOSE <= value <= limits[1] + CLOSE


def _check_joints(model: mujoco.MjModel, servos: list[Servo]) -> Iterator[Finding]:
    """Yield joints with several servos, and joints of the animal with none."""
    driven = [s.joint for s in servos if s.joint >= 0]
    twice = [_joint_name(model, j) for j in sorted(set(driven)) if driven.count(j) > 1]
    yield from about(PART, twice, "several servos drive the joint; expected one", "Remove the others")
    freed = mujoco.mjtJoint.mjJNT_FREE.value
    limp = [_joint_name(model, j) for j in range(model.njnt) if j not in driven and model.jnt_type[j] != freed]
    if limp:
        problem = f"{', '.join(limp)}: no servo; no action moves the joint, and the policy does not see it"
        yield doubt(PART, problem, "Add a servo, or leave the joint out")


def _joint_name(model: mujoco.MjModel, joint: int) -> str:
    return mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT.value, joint) or f"joint {joint}"
