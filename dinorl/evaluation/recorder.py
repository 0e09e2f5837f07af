"""Records sums and footfalls of each animal's first episode."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dinorl.evaluation import gait
from dinorl.tasks.signals import Signals


class Recorder:
    """Sums over each animal's first episode, all (n,).

    Args:
        n: animals.
        dt: control step, s.
        pairs: left and right foot of each girdle, the front girdle first.
        weight: of the animal, N.
        natural_pitch: rad, the pitch that counts as level.

    Attributes:
        steps: control steps of the episode.
        returns: sum of rewards.
        fell, success: bool.
        event_step: control step of the event, NaN before it.
        forward, lateral: sum of the velocity's components in the heading frame, the second without sign, m/s.
        speed: sum of the horizontal speed, m/s.
        approach: sum of the speed towards the target, m/s.
        pitch, roll: sum of the angles without sign, rad.
        energy: J.
        slip: sum over feet of speed × share of the step on the ground, m/s.
        load: sum of those shares.
    """

    def __init__(self, n: int, dt: float, pairs: gait.Pairs, weight: float, natural_pitch: float = 0.0) -> None:
        self.n, self.dt, self.pairs, self.weight, self.natural_pitch = n, dt, pairs, weight, natural_pitch
        self.steps = np.zeros(n)
        self.returns = np.zeros(n)
        self.fell = np.zeros(n, dtype=bool)
        self.success = np.zeros(n, dtype=bool)
        self.event_step = np.full(n, np.nan)
        self.forward = np.zeros(n)
        self.speed = np.zeros(n)
        self.lateral = np.zeros(n)
        self.approach = np.zeros(n)
        self.pitch = np.zeros(n)
        self.roll = np.zeros(n)
        self.energy = np.zeros(n)
        self.slip = np.zeros(n)
        self.load = np.zeros(n)
        self._contacts: list[np.ndarray] = []  # (n, feet) bool per step
        self._going: list[np.ndarray] = []  # (n,) bool per step

    def add(self, s: Signals, reward: np.ndarray, fell: np.ndarray, success: np.ndarray, going: np.ndarray) -> None:
        """Add one control step of the animals in their first episode.

        Args:
            s: the step's signals, (n, …).
            reward: (n,).
            fell, success: (n,) bool.
            going: (n,) bool, animals in their first episode.
        """
        g = going.astype(np.float64)
        self.steps += g
        self.returns += reward * g
        self.fell |= fell & going
        first = success & going & ~self.success
        self.event_step[first] = (self.steps - np.maximum(s.event_steps - 1, 0))[first]  # success comes later
        self.success |= first
        self.forward += s.velocity_h[:, 0] * g
        self.lateral += np.abs(s.velocity_h[:, 1]) * g
        self.approach += s.approach_speed * g
        self.speed += np.hypot(s.velocity_h[:, 0], s.velocity_h[:, 1]) * g
        self.pitch += np.abs(s.pitch - self.natural_pitch) * g
        self.roll += np.abs(s.roll) * g
        self.energy += s.power * self.dt * g
        self.slip += (s.foot_speed * s.stance).sum(axis=1) * g
        self.load += s.stance.sum(axis=1) * g
        self._contacts.append(s.contact & going[:, None])
        self._going.append(going.copy())

    # For the metrics -------------------------------------------------------------------------------------------------

    @cached_property
    def total(self) -> np.floating:
        """Control steps of all animals."""
        total: np.floating = self.steps.sum()
        return total

    @cached_property
    def lengths(self) -> np.ndarray:
        """Control steps of each animal, at least 1, (n,)."""
        return np.maximum(self.steps, 1.0)

    @cached_property
    def distance(self) -> np.ndarray:
        """Path length of each animal, m, (n,)."""
        return self.speed * self.dt

    @cached_property
    def going(self) -> np.ndarray:
        """Whether an animal is in its first episode, (steps, n) bool."""
        return np.stack(self._going)

    @cached_property
    def contact(self) -> np.ndarray:
        """Debounced contacts, (steps, n, feet) bool."""
        contact: np.ndarray = gait.debounced(np.stack(self._contacts)) & self.going[:, :, None]
        return contact

    @cached_property
    def landed(self) -> np.ndarray:
        """Touchdowns, (steps, n, feet) bool."""
        return gait.touchdowns(self.contact)

    @cached_property
    def phases(self) -> dict[str, float]:
        """Phases of the footfalls; see :func:`gait.footfalls`."""
        return gait.footfalls(self.landed, self.pairs)
