"""Checks that a model has what the tasks need: home, trunk, floor, feet, target, servos, sensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mujoco
import numpy as np

from dinorl.config import SpeciesConfig
from dinorl.sim.findings import Finding, about, doubt
from dinorl.sim.sensors import check_sensors
from dinorl.sim.servos import check_servos, servos_of

# Roles of the event that every stage uses.
NEEDED_ROLES = ("bonus", "distance_range", "lateral_range")
LEVEL = 1e-3  # of a quaternion, and of heights, m
MASSES = (0.1, 5000.0)  # kg, of what can be an animal

_COLLIDES = [getattr(mujoco.mjtGeom, f"mjGEOM_{name}").value for name in ("PLANE", "HFIELD", "BOX", "MESH")]
_FLAGS = {
    name: getattr(mujoco.mjtDisableBit, f"mjDSBL_{name.upper()}").value
    for name in ("contact", "constraint", "gravity", "actuation", "sensor", "limit", "clampctrl")
}


def check_anatomy(model: mujoco.MjModel, species: SpeciesConfig) -> list[Finding]:
    """Return what is wrong or doubtful about a model, without simulating it."""
    found = [finding for check in _CHECKS for finding in check(model, species)]
    servos = [servo.name for servo in servos_of(model) if servo.name]
    return [*found, *check_servos(model), *check_sensors(model, species, servos)]


def body_id(model: mujoco.MjModel, name: str) -> int:
    """Return a body's number; -1 if there is none of that name."""
    return int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY.value, name))


def home_id(model: mujoco.MjModel) -> int:
    """Return the number of the keyframe ``home``; -1 if there is none."""
    return int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY.value, "home"))


def is_free(model: mujoco.MjModel) -> bool:
    """Whether the body ``trunk`` has a freejoint, the first of all joints."""
    body = body_id(model, "trunk")
    if body < 0 or not model.body_jntnum[body]:
        return False
    joint = int(model.body_jntadr[body])
    return bool(model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE.value and model.jnt_qposadr[joint] == 0)


def floors(model: mujoco.MjModel) -> list[int]:
    """Return the geoms of the world that collide and could be a floor."""
    still = (model.body_weldid[model.geom_bodyid] == 0) & (model.body_mocapid[model.body_rootid[model.geom_bodyid]] < 0)
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    return [int(i) for i in np.flatnonzero(still & collides & np.isin(model.geom_type, _COLLIDES))]


def _check_trunk(model: mujoco.MjModel, species: SpeciesConfig) -> Iterator[Finding]:
    if body_id(model, "trunk") < 0:
        yield Finding("trunk", "found no body of that name", 'Type <body name="trunk"> for the root of the animal')
    elif not is_free(model):
        problem = "body trunk has none that is the first joint of the file; it cannot move"
        hint = 'Type <freejoint name="root"/> in <body name="trunk">, and put that body above other moving ones'
        yield Finding("freejoint", problem, hint)
    else:
        mass = float(model.body_subtreemass[body_id(model, "trunk")])
        if not MASSES[0] <= mass <= MASSES[1]:
            yield doubt("mass", f"found {mass:g} kg", "Check the units: masses are kg, densities kg/m³, lengths m")


def _check_home(model: mujoco.MjModel, species: SpeciesConfig) -> Iterator[Finding]:
    key = home_id(model)
    if key < 0:
        hint = 'Type <key name="home" qpos="…" ctrl="…"/> in <keyframe>'
        yield Finding("home", "found no keyframe of that name; it is the pose of action 0", hint)
    elif is_free(model):
        quat = model.key_qpos[key, 3:7]
        if np.abs(quat[1:3]).max() > LEVEL or not np.isclose(np.abs(quat).max(), np.linalg.norm(quat[[0, 3]])):
            problem = f"it tilts the trunk: quaternion {' '.join(f'{q:.3g}' for q in quat)}, expected 1 0 0 0"
            yield Finding("home", problem, "Type 1 0 0 0 in its qpos, and tilt what is in the trunk instead")
        if model.key_qpos[key, 2] <= 0.0:
            yield Finding(
                "home", f"the trunk is {model.key_qpos[key, 2]:g} m high", "Type its height in qpos, the third number"
            )


def _check_floor(model: mujoco.MjModel, species: SpeciesConfig) -> Iterator[Finding]:
    hint = '<geom name="floor" type="plane" size="60 60 1" contype="1" conaffinity="1"/> in <worldbody>'
    found = floors(model)
    if not found:
        yield Finding("floor", "found none that collides in the world", f"Type {hint}")
    planes = [i for i in found if model.geom_type[i] == mujoco.mjtGeom.mjGEOM_PLANE.value]
    if planes and min(abs(model.geom_pos[i, 2]) for i in planes) > LEVEL:
        yield doubt("floor", f"it is at z={model.geom_pos[planes[0], 2]:g}, heights count from 0", f"Type {hint}")
    if planes and min(np.abs(model.geom_quat[i, 1:3]).max() for i in planes) > LEVEL:
        yield doubt("floor", "it is not level", f"Type {hint}")


def _check_feet(model: mujoco.MjModel, species: SpeciesConfig) -> Iterator[Finding]:
    feet, phases = species.feet, species.gait_phase
    if not feet or len(feet) % 2 or len(set(feet)) < len(feet):
        problem = f"species.feet=[{','.join(feet)}]: expected pairs of left and right, each foot once"
        yield Finding("feet", problem, "Type species.feet=[foot_l,foot_r]")
    if len(phases) != len(feet):
        problem = f"species.gait_phase has {len(phases)} numbers, expected one a foot: {len(feet)}"
        yield Finding("feet", problem, f"Type species.gait_phase=[{','.join(('0.0', '0.5') * (len(feet) // 2 or 1))}]")


def _check_event(model: mujoco.MjModel, species: SpeciesConfig) -> Iterator[Finding]:
    event = species.event
    for role in NEEDED_ROLES:
        if role not in event.keys:
            key = f"{event.name}_{role}"
            yield Finding(
                "event", f"species.event.keys has no {role}", f"Type {role}: {key} there, and {key} below env"
            )
    if not event.effectors or len(set(event.effectors)) < len(event.effectors):
        problem = f"species.event.effectors=[{','.join(event.effectors)}]: expected one or more, each once"
        yield Finding("event", problem, "Type the names of a site and a geom, such as species.event.effectors=[jaw]")


def _check_target(model: mujoco.MjModel, species: SpeciesConfig) -> Iterator[Finding]:
    body = body_id(model, "target")
    hint = 'Type <body name="target" mocap="true" pos="10 0 0.5"> in <worldbody>, with a geom and a site of that name'
    if body < 0:
        yield Finding("target", "found no body of that name", hint)
    elif model.body_mocapid[body] < 0:
        yield Finding("target", "body target is no mocap body; it cannot be placed", hint)


def _check_world(model: mujoco.MjModel, species: SpeciesConfig) -> Iterator[Finding]:
    if not model.opt.gravity[2] < -LEVEL:
        found = " ".join(f"{g:g}" for g in model.opt.gravity)
        yield Finding(
            "options", f"gravity is {found}, expected it to pull down", 'Type gravity="0 0 -9.81" in <option>'
        )
    off = [name for name, bit in _FLAGS.items() if model.opt.disableflags & bit]
    yield from about("options", off, "switched off", "Remove it from <flag>")
    if mujoco.mj_isSparse(model):
        problem = "the Jacobian is sparse; MuJoCo 4.0.0 has a solver bug there"
        yield doubt("options", problem, 'Type jacobian="dense" in <option>')


_CHECKS: tuple[Callable[[mujoco.MjModel, SpeciesConfig], Iterator[Finding]], ...] = (
    _check_trunk, _check_home, _check_floor, _check_feet, _check_event, _check_target, _check_world,
)  # fmt: skip
