"""What is measured of a policy: accumulated over the steps of the first episode of each animal, vectorised."""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from dinorl.tasks.signals import Signals


def clopper_pearson_lower(successes: int, trials: int, confidence: float = 0.95) -> float:
    """Return the one-sided lower bound of a success probability (Clopper & Pearson 1934)."""
    if successes == 0:
        return 0.0
    return float(beta.ppf(1.0 - confidence, successes, trials - successes + 1))


class Recorder:
    """Sums over each animal's first episode.

    Args:
        n: animals.
        dt: control step, s.
        pairs: left and right foot of each girdle.
        feet: number of feet.
        mass: kg.
    """

    def __init__(self, n: int, dt: float, pairs: tuple[tuple[int, int], ...], feet: int, mass: float) -> None:
        self.dt, self.mass = dt, mass
        self._left, self._right = [p[0] for p in pairs], [p[1] for p in pairs]
        self.steps = np.zeros(n)
        self.returns = np.zeros(n)
        self.fell = np.zeros(n, dtype=bool)
        self.success = np.zeros(n, dtype=bool)
        self.event_step = np.full(n, np.nan)
        self.forward = np.zeros(n)  # m/s, summed
        self.speed = np.zeros(n)  # m/s, horizontal, any direction, summed
        self.lateral = np.zeros(n)
        self.pitch = np.zeros(n)
        self.roll = np.zeros(n)
        self.energy = np.zeros(n)  # J
        self.flight = np.zeros(n)
        self.stance = np.zeros((n, feet))
        self.slip = np.zeros(n)  # m/s, summed over feet in contact
        self.contacts = np.zeros(n)
        self.touchdowns = np.zeros((n, feet))
        self.turns = np.zeros((n, len(pairs)))
        self.follow = np.zeros((n, len(pairs)))
        self._last = np.full((n, len(pairs)), -1)

    def add(self, s: Signals, reward: np.ndarray, fell: np.ndarray, success: np.ndarray, going: np.ndarray) -> None:
        """Count one control step in, for the animals that are still in their first episode.

        Args:
            s: (n, …) the step's signals.
            reward: (n,).
            fell, success: (n,) bool.
            going: (n,) bool, which animals count.
        """
        g = going.astype(np.float64)
        self.steps += g
        self.returns += reward * g
        self.fell |= fell & going
        first = success & going & ~self.success
        self.event_step[first] = self.steps[first]
        self.success |= first
        self.forward += s.velocity_h[:, 0] * g
        self.lateral += np.abs(s.velocity_h[:, 1]) * g
        self.speed += np.hypot(s.velocity_h[:, 0], s.velocity_h[:, 1]) * g
        self.pitch += s.pitch * g
        self.roll += np.abs(s.roll) * g
        self.energy += s.power * self.dt * g
        self.flight += (~s.contact.any(axis=1)) * g
        self.stance += s.stance * g[:, None]
        self.slip += (s.foot_speed * s.contact).sum(axis=1) * g
        self.contacts += s.contact.sum(axis=1) * g
        landed = s.touchdown & going[:, None]
        self.touchdowns += landed
        left, right = landed[:, self._left], landed[:, self._right]
        one, both = left ^ right, left & right
        foot = right.astype(int)
        known = self._last >= 0
        self.follow += (one | both) & known
        self.turns += one & known & (foot != self._last)
        self._last = np.where(one, foot, self._last)

    def metrics(self) -> dict[str, float]:
        """Return the metrics over all episodes; speeds m/s, times s, angles degrees."""
        n = self.steps.size
        steps = np.maximum(self.steps, 1.0)
        seconds = steps * self.dt
        total = self.steps.sum()
        distance = self.speed * self.dt
        travelled = distance.sum()
        successes = int(self.success.sum())
        return {
            "episodes": float(n),
            "return_mean": float(self.returns.mean()),
            "return_std": float(self.returns.std()),
            "length_mean": float(self.steps.mean()),
            "fall_rate": float(self.fell.mean()),
            "success_rate": successes / n,
            "success_lcb95": clopper_pearson_lower(successes, n),
            "forward_speed_mean_mps": float((self.forward / steps).mean()),
            "lateral_speed_mean_mps": float((self.lateral / steps).mean()),
            "distance_mean_m": float(distance.mean()),
            "time_to_event_mean_s": float(np.nanmean(self.event_step) * self.dt) if successes else float("nan"),
            "gait.alternation": float(self.turns.sum() / self.follow.sum()) if self.follow.sum() else 0.0,
            "gait.duty_factor": float(self.stance.sum() / (total * self.stance.shape[1])),
            "gait.flight_fraction": float(self.flight.sum() / total),
            "gait.stride_hz": float((self.touchdowns / seconds[:, None]).mean()),
            "gait.foot_slip_mps": float(self.slip.sum() / max(self.contacts.sum(), 1.0)),
            "trunk.pitch_deg": float(np.degrees(self.pitch.sum() / total)),
            "trunk.roll_deg": float(np.degrees(self.roll.sum() / total)),
            # energy per weight and distance (Tucker 1975); what stands still has none
            "cost_of_transport": float(self.energy.sum() / (self.mass * 9.81 * travelled))
            if travelled > 1.0
            else float("nan"),
        }
