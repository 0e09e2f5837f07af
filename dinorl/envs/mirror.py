"""One side is enough to learn: in the second half of a stride the policy is shown the animal in a mirror.

Left and right change places in what it sees, and again in what it answers. By construction the policy then acts on both
sides alike: it cannot limp, cannot turn one way only, and learns from either leg what holds for both. (The PHASE method
of Abdolhosseini et al. 2019, "On Learning Symmetric Locomotion", with the gait clock as its phase.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinorl.config import ConfigError
from dinorl.sim.model import Animal
from dinorl.tasks.observation import pieces

# foot_l, foot_fl, hip_roll_hr: the last letter is the side.
_SIDED = re.compile(r"_[a-z]?([lr])$")


@dataclass(frozen=True)
class Mirror:
    """Where each number of an observation and of an action stands in the mirror, and with what sign."""

    observation: tuple[np.ndarray, np.ndarray]  # (obs,) columns, (obs,) signs
    action: tuple[np.ndarray, np.ndarray]  # (actuators,) columns, (actuators,) signs
    sine: int  # column of the gait clock's sine

    def shown(self, observation: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Return (n, obs) observations, mirrored ``where`` (n,) it says so."""
        return _reflect(observation, where, *self.observation)

    def acted(self, action: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Return (n, actuators) actions, mirrored ``where`` (n,) it says so."""
        return _reflect(action, where, *self.action)

    def second_half(self, observation: np.ndarray) -> np.ndarray:
        """Return (n,) bool: which (n, obs) observations are of the second half of a stride."""
        return observation[:, self.sine] < 0.0


def _reflect(values: np.ndarray, where: np.ndarray, columns: np.ndarray, signs: np.ndarray) -> np.ndarray:
    reflected = values.copy()
    reflected[where] = values[where][:, columns] * signs
    return reflected


def mirror_of(animal: Animal) -> Mirror:
    """Return an animal's mirror.

    Raises:
        ConfigError: its left and right are no mirror images of each other.
    """
    species = animal.species
    servos, feet, effectors = _servos(animal), _partners(species.feet), _partners(species.event.effectors)
    lag = (np.asarray(species.gait_phase) - np.asarray(species.gait_phase)[feet]) % 1.0
    if not (np.allclose(lag, 0.5) or np.allclose(lag, 0.0)):
        raise _no_mirror(
            animal, f"species.gait_phase={species.gait_phase} has left and right neither in turn nor at once"
        )
    in_turn = -1.0 if np.allclose(lag, 0.5) else 1.0
    vector, turning = np.array([1.0, -1.0, 1.0]), np.array([-1.0, 1.0, -1.0])  # true and axial vectors in the mirror
    one = np.ones(1)
    same = {
        "height": one, "up_b": vector, "trunk_velocity_h": vector, "angular_velocity_h": turning,
        "gait_clock": np.full(2, in_turn), "target_direction_h": vector[:2], "target_distance": one,
        "target_height_h": one,
    }  # fmt: skip
    parts = {name: (np.arange(signs.size), signs) for name, signs in same.items()}
    parts |= dict.fromkeys(("joint_position", "joint_velocity", "action"), servos)
    parts["stance"] = (feet, np.ones(feet.size))
    parts["effector_h"] = (
        (3 * effectors[:, None] + np.arange(3)).ravel(),
        np.tile(vector, effectors.size),
    )
    columns, signs, begin, sine = [], [], 0, 0
    for piece in pieces(animal.model.nu, feet.size, effectors.size):
        own, sign = parts[piece.name]
        assert own.size == piece.size, piece
        sine = begin + 1 if piece.name == "gait_clock" else sine
        columns.append(begin + own)
        signs.append(sign)
        begin += piece.size
    return Mirror((np.concatenate(columns), np.concatenate(signs).astype(np.float32)), servos, sine)


def _partners(names: Sequence[str]) -> np.ndarray:
    """Return, for each name, the place of the one on the other side; its own where there is none."""
    places = {name: i for i, name in enumerate(names)}

    def other(name: str) -> str:
        sided = _SIDED.search(name)
        return name[:-1] + {"l": "r", "r": "l"}[sided[1]] if sided else name

    return np.array([places.get(other(name), i) for name, i in places.items()])


def _servos(animal: Animal) -> tuple[np.ndarray, np.ndarray]:
    """Return the places and signs of the servos' joints in the mirror, after making sure that it is one."""
    model = animal.model
    joints = model.actuator_trnid[:, 0]
    names = [model.joint(i).name for i in joints]
    partner = _partners(names)
    # A rotation about an axis is, in the mirror, one about the axis reflected as an axial vector.
    axis = model.jnt_axis[joints]
    signs = (axis[partner] * (axis * [-1.0, 1.0, -1.0])).sum(axis=1).round(6)
    home = animal.home_qpos[animal.joint_qpos]
    low, high = model.jnt_range[joints].T
    limits = np.where(signs > 0, [low, high], [-high, -low])
    for i, j in enumerate(partner):
        if abs(signs[i]) != 1.0 or not np.allclose(
            [low[j], high[j], home[j]], [*limits[:, i], signs[i] * home[i]], atol=1e-6
        ):
            raise _no_mirror(animal, f"joints {names[i]} and {names[j]} differ in axis, range or home position")
    return partner, signs


def _no_mirror(animal: Animal, why: str) -> ConfigError:
    return ConfigError(
        f"{animal.path}: its left and right are no mirror images: {why}. Mend it, or type "
        "ppo.policy_kwargs.mirror=false (sac.policy_kwargs.mirror=false)"
    )
