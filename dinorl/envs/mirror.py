"""Mirrors observations and actions in the second half of a stride.

The policy then acts on both sides alike: it cannot limp or turn one way only, and both legs share experience. This is
PHASE of Abdolhosseini et al. 2019, "On Learning Symmetric Locomotion", with the gait clock as phase.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinorl.config import ALGORITHMS, ConfigError
from dinorl.sim.model import Animal
from dinorl.sim.symmetry import symmetry_of
from dinorl.tasks import observation

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
    found = symmetry_of(animal.model, animal.species)
    if found.problems:
        off = " or ".join(f"{algorithm}.policy_kwargs.mirror=false" for algorithm in ALGORITHMS)
        raise ConfigError(
            f"{animal.path}: its left and right are no mirror images: {'; '.join(found.problems)}. "
            f"Mend it, or type {off}"
        )
    servos, feet, effectors = (found.servos, found.signs), found.feet, found.effectors
    swaps: dict[str, Swap] = {
        observation.TRUNK: _unsigned(np.zeros(1, dtype=np.int64)),
        observation.CLOCK: (np.zeros(1, dtype=np.int64), np.array([found.clock])),
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
