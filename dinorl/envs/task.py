"""The task of a composed config: which terms are active and with what weights, over the pure functions of ``tasks``."""

from __future__ import annotations

import math

import numpy as np

from dinorl.config import Config
from dinorl.sim.model import Animal
from dinorl.tasks import episode
from dinorl.tasks.rewards import EVENT_TERMS, TERMS, Knobs, Term, happened
from dinorl.tasks.signals import Array, Body, Signals

# A foot bears load from this share of the body weight on.
CONTACT_LOAD = 0.01


def foot_pairs(feet: list[str]) -> tuple[tuple[int, int], ...]:
    """Return the left and right foot of each girdle, by the order in which a species lists its feet."""
    return tuple((i, i + 1) for i in range(0, len(feet), 2))


class Task:
    """Rewards, falls and targets of one animal at one stage.

    Attributes:
        terms: reward terms by name, the name they are logged under.
        weights: their weights, which training may ramp with :meth:`set_weight`.
    """

    def __init__(self, cfg: Config, animal: Animal) -> None:
        env, event = cfg.env, cfg.species.event
        self.env = env
        role = {name: getattr(env, key) for name, key in event.keys.items()}
        self.body = Body(
            layout=animal.layout,
            home_joints=animal.home_qpos[animal.joint_qpos],
            joint_qpos=animal.joint_qpos,
            joint_qvel=animal.joint_qvel,
            load_threshold=CONTACT_LOAD * animal.weight,
            dt=animal.control_timestep,
            event_threshold=role.get("threshold", 0.0),
            foot_pairs=foot_pairs(cfg.species.feet),
        )
        self.knobs = Knobs(
            home_height=animal.home_height,
            weight_newton=animal.weight,
            natural_pitch=env.natural_pitch,
            forward_vel_max=math.inf if env.forward_vel_max is None else env.forward_vel_max,
            speed_penalty_threshold=env.speed_penalty_threshold,
            idle_velocity_threshold=env.idle_velocity_threshold,
            foot_contact_gate=env.foot_contact_gate,
            gait_phase=tuple(cfg.species.gait_phase),
            gait_clock_duty=env.gait_clock_duty,
            gait_full_speed=env.gait_full_speed,
            gait_swing=(1.0 - env.gait_clock_duty) / env.gait_clock_frequency if env.gait_clock_frequency else 0.0,
            event_hold=round(env.event_hold / animal.control_timestep),
        )
        functions: dict[str, Term] = dict(TERMS)
        functions |= {event.keys[name]: term for name, term in EVENT_TERMS.items() if name in event.keys}
        self.terms = {key.removesuffix("_weight"): (key, function) for key, function in functions.items()}
        self.weights = {name: float(getattr(env, key)) for name, (key, _) in self.terms.items()}
        self.names = [*self.terms, "fall_penalty"]
        # An episode ends with the event where the event is paid; elsewhere the target moves on when it is reached.
        self.ends_with_event = bool(role["bonus"])
        self.bonus = event.keys["bonus"].removesuffix("_weight")
        home = animal.target_height
        self._target = (role["distance_range"], role["lateral_range"], role.get("height_range", [home, home]))

    def active(self) -> dict[str, float]:
        """Return the terms that are paid, with their weights."""
        paid = {name: weight for name, weight in self.weights.items() if weight}
        return paid | ({"fall_penalty": self.env.fall_penalty} if self.env.fall_penalty else {})

    def set_weight(self, key: str, value: float) -> None:
        """Set the weight of the term that the env key weighs."""
        self.weights[key.removesuffix("_weight")] = value

    def rewards(self, s: Signals, fell: Array) -> dict[str, Array]:
        """Return each active term's weighted reward, (n,)."""
        paid = {
            name: self.weights[name] * term(s, self.knobs)
            for name, (_, term) in self.terms.items()
            if self.weights[name]
        }
        if self.bonus in paid:  # a fall onto the target is no bite: what was paid for it is taken back
            paid[self.bonus] = self.taken_back(paid[self.bonus], fell & (s.event_steps > 0))
        if self.env.fall_penalty:
            paid["fall_penalty"] = self.env.fall_penalty * s.xp.astype(fell, s.xp.float64)
        return paid

    def taken_back(self, bonus: Array, lost: Array) -> Array:
        """Return the event's (n,) bonus less what was paid to those who have lost it."""
        return bonus - self.weights[self.bonus] * lost

    def fell(self, s: Signals) -> Array:
        """Return (n,) bool: which animals have fallen."""
        env = self.env
        return episode.fallen(
            s, env.healthy_z_range, env.max_tilt_angle, env.natural_pitch, env.nosedive_termination_threshold
        )

    def succeeded(self, s: Signals) -> Array:
        """Return (n,) bool: which animals have had their event, and ``env.event_hold`` after it."""
        return happened(s, self.knobs)

    def targets(self, position_w: np.ndarray, heading_w: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Return (n, 3) target positions ahead of animals with these headings, from (n, 3) uniform numbers."""
        return episode.place_target(np, position_w, heading_w, u, *self._target)
