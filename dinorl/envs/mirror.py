"""Mirrors observations and actions in the second half of a stride.

The policy then acts on both sides alike: it cannot limp or turn one way only, and both legs share experience. This is
PHASE of Abdolhosseini et al. 2019, "On Learning Symmetric Locomotion", with the gait clock as phase.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinorl.config import ALGORITHMS, ConfigError
from dinorl.sim.model import Animal
from dinorl.tasks import observation

# foot_l, foot_fl, hip_roll_hr.
_SIDED = re.compile(r"_[a-z]?([lr])$")
# (parts,) partner index, (parts,) sign
Swap = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Mirror:
    """Permutations and signs that mirror observations and actions."""

    observation: Swap  # (obs,) columns, (obs,) signs
    action: Swap  # (actuators,) columns, (actuators,) signs
    sine: int  # column of the gait clock's sine

    def shown(self, observation: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Return (n, obs) observations, mirrored where (n,) ``where`` is true."""
        return _reflect(observation, where, *self.observation)

    def acted(self, action: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Return (n, actuators) actions, mirrored where (n,) ``where`` is true."""
        return _reflect(action, where, *self.action)

    def second_half(self, observation: np.ndarray) -> np.ndarray:
        """Return (n,) bool: whether (n, obs) observations are in the second half of a stride."""
        return observation[:, self.sine] < 0.0


def _reflect(values: np.ndarray, where: np.ndarray, columns: np.ndarray, signs: np.ndarray) -> np.ndarray:
    reflected = values.copy()
    reflected[where] = values[where][:, columns] * signs
    return reflected


def mirror_of(animal: Animal) -> Mirror:
    """Return an animal's mirror.

    Raises:
        ConfigError: left and right are not symmetric.
    """
    species = animal.species
    servos, feet, effectors = _servos(animal), _partners(species.feet), _partners(species.event.effectors)
    swaps: dict[str, Swap] = {
        observation.TRUNK: _unsigned(np.zeros(1, dtype=np.int64)),
        observation.CLOCK: (np.zeros(1, dtype=np.int64), np.array([_clock_sign(animal, feet)])),
        observation.ACTUATORS: servos,
        observation.FEET: _unsigned(feet),
        observation.EFFECTORS: _unsigned(effectors),
    }
    spans = observation.columns(observation.part_counts(animal.model.nu, feet.size, effectors.size))
    columns, signs = [], []
    for piece in observation.PIECES:
        partner, sign = swaps[piece.part]
        width = len(piece.signs)
        columns.append(spans[piece.name].start + (width * partner[:, None] + np.arange(width)).ravel())
        signs.append(np.outer(sign, piece.signs).ravel())
    sine = spans["gait_clock"].start + 1
    return Mirror((np.concatenate(columns), np.concatenate(signs).astype(np.float32)), servos, sine)


def _unsigned(partner: np.ndarray) -> Swap:
    return partner, np.ones(partner.size)


def _clock_sign(animal: Animal, feet: np.ndarray) -> float:
    """Return the sign of the mirrored gait clock: -1 (half a cycle) if left and right alternate."""
    phase = animal.species.gait_phase
    lag = (np.asarray(phase) - np.asarray(phase)[feet]) % 1.0
    if np.allclose(lag, 0.5):
        return -1.0
    if np.allclose(lag, 0.0):
        return 1.0
    raise _no_mirror(animal, f"species.gait_phase={phase} has left and right neither in turn nor at once")


def _partners(names: Sequence[str]) -> np.ndarray:
    """Return the index of each name's partner on the other side; its own if there is none."""
    places = {name: i for i, name in enumerate(names)}

    def other(name: str) -> str:
        sided = _SIDED.search(name)
        return name[:-1] + {"l": "r", "r": "l"}[sided[1]] if sided else name

    return np.array([places.get(other(name), i) for name, i in places.items()])


def _servos(animal: Animal) -> Swap:
    """Return the servos' partners and signs; check that joints and home pose are symmetric."""
    model = animal.model
    joints = model.actuator_trnid[:, 0]
    names = [model.joint(i).name for i in joints]
    partner = _partners(names)
    # rotation axes reflect as axial vectors
    axis = model.jnt_axis[joints]
    signs = (axis[partner] * (axis * observation.AXIAL)).sum(axis=1).round(6)
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
    off = " or ".join(f"{algorithm}.policy_kwargs.mirror=false" for algorithm in ALGORITHMS)
    return ConfigError(f"{animal.path}: its left and right are no mirror images: {why}. Mend it, or type {off}")
