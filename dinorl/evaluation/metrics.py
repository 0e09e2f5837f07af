"""What is measured of a policy: accumulated over the steps of the first episode of each animal, vectorised."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from dinorl.evaluation import gait
from dinorl.tasks.signals import Signals


def clopper_pearson_lower(successes: int, trials: int, confidence: float = 0.95) -> float:
    """Return the one-sided lower bound of a success probability (Clopper & Pearson 1934)."""
    if successes == 0:
        return 0.0
    # a quantile of the beta distribution; scipy.stats, which names it so, takes a second to import
    return float(betaincinv(successes, trials - successes + 1, 1.0 - confidence))


class Recorder:
    """Sums over each animal's first episode, and its footfalls.

    Args:
        n: animals.
        dt: control step, s.
        pairs: left and right foot of each girdle, the front girdle first.
        mass: kg.
        natural_pitch: rad, the pitch that counts as level.
    """

    def __init__(self, n: int, dt: float, pairs: gait.Pairs, mass: float, natural_pitch: float = 0.0) -> None:
        self.dt, self.mass, self.pairs, self.natural_pitch = dt, mass, pairs, natural_pitch
        self.steps = np.zeros(n)
        self.returns = np.zeros(n)
        self.fell = np.zeros(n, dtype=bool)
        self.success = np.zeros(n, dtype=bool)
        self.event_step = np.full(n, np.nan)
        self.forward = np.zeros(n)  # m/s, summed
        self.speed = np.zeros(n)  # m/s, horizontal, any direction, summed
        self.lateral = np.zeros(n)
        self.approach = np.zeros(n)  # m/s, by which the distance to the target shrinks, summed
        self.pitch = np.zeros(n)
        self.roll = np.zeros(n)
        self.energy = np.zeros(n)  # J
        self.slip = np.zeros(n)  # m/s, summed over feet, each for its share of the step on the ground
        self.load = np.zeros(n)  # those shares
        self._contacts: list[np.ndarray] = []  # (n, feet) bool, a control step each
        self._going: list[np.ndarray] = []  # (n,) bool

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
        self.event_step[first] = (self.steps - np.maximum(s.event_steps - 1, 0))[first]  # it counts some time later
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

    def metrics(self) -> dict[str, float]:
        """Return the metrics over all episodes; speeds m/s, times s, angles degrees."""
        n = self.steps.size
        steps = np.maximum(self.steps, 1.0)
        total = self.steps.sum()
        distance = self.speed * self.dt
        travelled = distance.sum()
        successes = int(self.success.sum())
        contact = gait.debounced(np.stack(self._contacts))
        going = np.stack(self._going)
        contact &= going[:, :, None]
        landed = gait.touchdowns(contact)
        feet = contact.shape[2]
        return {
            "episodes": float(n),
            "return_mean": float(self.returns.mean()),
            "return_std": float(self.returns.std()),
            "length_mean": float(self.steps.mean()),
            "fall_rate": float(self.fell.mean()),
            "full_episodes_lcb95": clopper_pearson_lower(n - int(self.fell.sum()), n),
            "success_rate": successes / n,
            "success_lcb95": clopper_pearson_lower(successes, n),
            "forward_speed_mean_mps": float((self.forward / steps).mean()),
            "lateral_speed_mean_mps": float((self.lateral / steps).mean()),
            "approach_speed_mean_mps": float((self.approach / steps).mean()),
            "distance_mean_m": float(distance.mean()),
            "time_to_event_mean_s": float(np.nanmean(self.event_step) * self.dt) if successes else float("nan"),
            "gait.alternation": gait.alternation(landed, self.pairs),
            "gait.duty_factor": float(contact.sum() / (total * feet)),
            "gait.flight_fraction": float((going & ~contact.any(axis=2)).sum() / total),
            "gait.stride_hz": float((landed.sum(axis=0) / (steps * self.dt)[:, None]).mean()),
            "gait.foot_slip_mps": float(self.slip.sum() / max(self.load.sum(), 1e-9)),
            **{f"gait.{key}": value for key, value in gait.footfalls(landed, self.pairs).items()},
            "trunk.pitch_deg": float(np.degrees(self.pitch.sum() / total)),
            "trunk.roll_deg": float(np.degrees(self.roll.sum() / total)),
            # energy per weight and distance (Tucker 1975); what stands still has none
            "cost_of_transport": float(self.energy.sum() / (self.mass * 9.81 * travelled))
            if travelled > 1.0
            else float("nan"),
        }
