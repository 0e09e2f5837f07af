"""Finds left and right of an animal by geometry: partners are at mirrored places in the home pose.

The mirror is the trunk's plane y = 0. Names only help to explain what is not symmetric.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from dinorl.config import SpeciesConfig
from dinorl.sim.sensors import place_of
from dinorl.tasks.observation import AXIAL, VECTOR

TOLERANCE = 0.02  # of the home height, between a place and its partner's mirror image
SAME_AXIS = 0.99  # cosine; less are other joints
EXACT_AXIS = 1e-4  # of the cosine, of partners
ANGLE = 1e-3  # rad, between ranges and home positions
MASS, GAIN = 0.05, 1e-3  # relative

# Marks of the sides: left, then right.
_SIDES = {"l": "r", "left": "right", "fl": "fr", "lf": "rf", "hl": "hr", "lh": "rh", "rl": "rr", "lr": "rr", "ml": "mr"}
_MARKS = [*_SIDES.items(), *((right, left) for left, right in _SIDES.items())]


@dataclass(frozen=True)
class Symmetry:
    """Partners on the other side by index; a part in the middle is its own, -1: there is none."""

    servos: np.ndarray  # (actuators,)
    signs: np.ndarray  # (actuators,) ±1, of the mirrored angle
    feet: np.ndarray  # (feet,)
    effectors: np.ndarray  # (effectors,)
    clock: float  # -1: left and right feet step in turn, 1: at once
    problems: tuple[str, ...]  # why left and right are no mirror images; empty: they are


def symmetry_of(model: mujoco.MjModel, species: SpeciesConfig) -> Symmetry:
    """Return the symmetry of a model without faults."""
    data = at_home(model)
    near = TOLERANCE * float(model.key("home").qpos[2])
    joints = model.actuator_trnid[:, 0]
    partner, signs = _partners_of_joints(model, data, joints, near)
    problems = list(_unlike_joints(model, data, joints, partner, signs))
    found = []
    for names, sensor in ((species.feet, "{}_touch"), (species.event.effectors, "{}_pos")):
        places = places_of(model, data, [sensor.format(name) for name in names])
        mates = mirrored(_distances(places), near)
        found.append(mates)
        problems += [
            f"{names[i]} at {_shown(places[i])} has no partner on the other side" for i in np.flatnonzero(mates < 0)
        ]
    feet, effectors = found
    lag = (np.asarray(species.gait_phase) - np.asarray(species.gait_phase)[feet]) % 1.0
    in_turn, at_once = np.allclose(lag, 0.5), np.allclose(np.abs((lag + 0.5) % 1.0 - 0.5), 0.0)
    if (feet >= 0).all() and not in_turn and not at_once:
        problems.append(f"species.gait_phase={species.gait_phase} has left and right neither in turn nor at once")
    return Symmetry(partner, signs, feet, effectors, -1.0 if in_turn else 1.0, tuple(problems))


def at_home(model: mujoco.MjModel) -> mujoco.MjData:
    """Return the home pose with the places of all parts."""
    data = mujoco.MjData(model)
    data.qpos[:] = model.key("home").qpos
    mujoco.mj_kinematics(model, data)
    return data


def places_of(model: mujoco.MjModel, data: mujoco.MjData, sensors: Sequence[str]) -> np.ndarray:
    """Return where the objects of sensors are, (n, 3) m, in the trunk's frame."""
    return _in_trunk(model, data, np.array([place_of(model, data, sensor) for sensor in sensors]))


def mirrored(distances: np.ndarray, near: float) -> np.ndarray:
    """Return the (n,) index of each part's partner; -1: none is near, or the nearest has a nearer one.

    Args:
        distances: (n, n) from part i to the mirror image of part j.
        near: m, the largest distance of partners.
    """
    nearest = distances.argmin(axis=1)
    everyone = np.arange(nearest.size)
    paired = (distances[everyone, nearest] <= near) & (nearest[nearest] == everyone)
    return np.where(paired, nearest, -1)


def _in_trunk(model: mujoco.MjModel, data: mujoco.MjData, places_w: np.ndarray) -> np.ndarray:
    trunk = model.body("trunk").id
    return np.asarray((places_w - data.xpos[trunk]) @ data.xmat[trunk].reshape(3, 3))


def _distances(places: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(places[:, None] - places * VECTOR, axis=-1))


def _partners_of_joints(
    model: mujoco.MjModel, data: mujoco.MjData, joints: np.ndarray, near: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the joints' partners and the signs of their mirrored angles.

    Joints of one place are told apart by their axes, then by their depth in the tree.
    """
    trunk = data.xmat[model.body("trunk").id].reshape(3, 3)
    places, axes = _in_trunk(model, data, data.xanchor[joints]), data.xaxis[joints] @ trunk
    cosines = axes @ (axes * AXIAL).T  # rotation axes reflect as axial vectors
    depths = np.array([_depth(model, body) for body in model.jnt_bodyid[joints]])
    apart = _distances(places) + 1e-6 * near * np.abs(depths[:, None] - depths)
    partner = mirrored(np.where(np.abs(cosines) > SAME_AXIS, apart, np.inf), near)
    signs = cosines[np.arange(joints.size), partner]
    return partner, np.where(np.abs(signs) >= 1.0 - EXACT_AXIS, np.sign(signs), signs)


def _depth(model: mujoco.MjModel, body: int) -> int:
    depth = 0
    while body:
        depth, body = depth + 1, int(model.body_parentid[body])
    return depth


def _unlike_joints(
    model: mujoco.MjModel, data: mujoco.MjData, joints: np.ndarray, partner: np.ndarray, signs: np.ndarray
) -> Iterator[str]:
    """Yield joints without partners, and partners that differ."""
    names = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT.value, j) or f"joint {j}" for j in joints]
    places = _in_trunk(model, data, data.xanchor[joints])
    for i, j in enumerate(partner):
        if j < 0:
            named = names.index(mate) if (mate := named_partner(names[i], names)) else -1
            if named > i or (named >= 0 and partner[named] >= 0):
                yield (
                    f"joints {names[i]} and {names[named]} differ in place or axis: {_shown(places[i])} and "
                    f"{_shown(places[named])}"
                )
            elif named < 0:
                yield f"joint {names[i]} at {_shown(places[i])} has no partner on the other side"
        elif j >= i and (unlike := list(_differences(model, joints, i, int(j), signs))):
            yield f"joints {names[i]} and {names[j]} differ in {', '.join(unlike)}"


def _differences(model: mujoco.MjModel, joints: np.ndarray, i: int, j: int, signs: np.ndarray) -> Iterator[str]:
    """Yield in what two partners differ."""
    one, other, sign = joints[i], joints[j], signs[i]
    if abs(sign) != 1.0:
        yield "axis"
    image = model.jnt_range[one] if sign > 0 else -model.jnt_range[one][::-1]
    if not np.allclose(model.jnt_range[other], image, atol=ANGLE):
        yield "range"
    home = model.key("home").qpos[model.jnt_qposadr[[one, other]]]
    if not np.isclose(home[1], sign * home[0], atol=ANGLE):
        yield "home position"
    gains = [np.r_[model.actuator_gainprm[k, :1], model.actuator_biasprm[k, 1:3]] for k in (i, j)]
    if not np.allclose(gains[0], gains[1], rtol=GAIN):
        yield "kp or kv"
    mass = model.body_mass[model.jnt_bodyid[[one, other]]]
    if abs(mass[1] - mass[0]) > MASS * mass.max():
        yield "mass"


def _shown(place: np.ndarray) -> str:
    return f"({', '.join(f'{x + 0.0:.3f}' for x in place)})"


def named_partner(name: str, names: Sequence[str]) -> str | None:
    """Return the name of the other side's part, as people write it: ``FL_hip`` is ``FR_hip``; None: there is none."""
    tokens = re.split(r"([_\W]+|(?<=[a-z])(?=[A-Z]))", name)
    for k, token in enumerate(tokens):
        for side, other in _MARKS:
            if token.lower() == side:
                guess = "".join([*tokens[:k], _in_case_of(token, other), *tokens[k + 1 :]])
                if guess in names:
                    return guess
    for side, other in (("left", "right"), ("right", "left")):
        guess = re.sub(side, lambda found, to=other: _in_case_of(found[0], to), name, flags=re.IGNORECASE)  # type: ignore[misc]
        if guess != name and guess in names:
            return guess
    return None


def _in_case_of(word: str, other: str) -> str:
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
