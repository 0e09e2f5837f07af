"""The task of a composed config: its active reward terms and their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dinorl.config import Config
from dinorl.sim.model import Animal, evenly
from dinorl.tasks import episode
from dinorl.tasks.body import Array, Body
from dinorl.tasks.declare import logged_name
from dinorl.tasks.events import EVENT_TERMS, happened
from dinorl.tasks.observation import observe
from dinorl.tasks.rewards import TERMS
from dinorl.tasks.signals import Memory, Signals, measure, remember, tick

# Share of body weight.
CONTACT_LOAD = 0.01


def foot_pairs(feet: list[str]) -> tuple[tuple[int, int], ...]:
    """Return (left, right) of each girdle, from the order of a species' feet."""
    return tuple((i, i + 1) for i in range(0, len(feet), 2))


class Judgement(NamedTuple):
    """What a control step came to."""

    memory: Memory  # after the step
    observation: Array  # (n, obs) float32
    paid: Array  # (terms, n) weighted rewards
    reward: Array  # (n,) their sum
    success: Array  # (n,) bool, the event was held, without a fall
    terminated: Array  # (n,) bool
    truncated: Array  # (n,) bool


class Task:
    """Rewards, falls and targets of one animal at one stage.

    Attributes:
        body: constants of the animal.
        terms: reward terms by the name they are logged under, as functions of the signals.
        weights: their weights, which training may ramp with :meth:`set_weight`.
        bonus: name of the event's bonus.
        ends_with_event: the episode ends with the event; else a reached target moves on.
    """

    def __init__(self, cfg: Config, animal: Animal) -> None:
        env, event = cfg.env, cfg.species.event
        self.env = env
        role = {name: getattr(env, key) for name, key in event.keys.items()}
        self.body = Body(
            layout=animal.layout,
            home_joints=animal.home_qpos[animal.joint_qpos],
            joint_qpos=evenly(animal.joint_qpos),
            joint_qvel=evenly(animal.joint_qvel),
            foot_pairs=foot_pairs(cfg.species.feet),
            gait_phase=np.asarray(cfg.species.gait_phase),
            home_height=animal.home_height,
            weight=animal.weight,
            load_threshold=CONTACT_LOAD * animal.weight,
            dt=animal.control_timestep,
            event_threshold=role.get("threshold", 0.0),
        )
        paid = list(TERMS.values())
        paid += [term.under(event.keys[name]) for name, term in EVENT_TERMS.items() if name in event.keys]
        self.terms: dict[str, Callable[[Signals], Array]] = {
            term.name: term.bind(env, self.body, event.keys) for term in paid
        }
        self.weights = {term.name: float(getattr(env, term.weight.name)) for term in paid}
        self.names = [*self.terms, "fall_penalty"]
        self._active = self._find_active()
        self.bonus = logged_name(event.keys["bonus"])
        self.ends_with_event = bool(role["bonus"])
        self._hold = round(env.event_hold / animal.control_timestep)
        home = animal.target_height
        self._target = (role["distance_range"], role["lateral_range"], role.get("height_range", [home, home]))

    def active(self) -> dict[str, float]:
        """Return the terms with nonzero weights; another dict after a change."""
        return self._active

    def set_weight(self, key: str, value: float) -> None:
        """Set the weight of the term with this env key."""
        self.weights[logged_name(key)] = value
        self._active = self._find_active()

    def _find_active(self) -> dict[str, float]:
        paid = {name: weight for name, weight in self.weights.items() if weight}
        return paid | ({"fall_penalty": self.env.fall_penalty} if self.env.fall_penalty else {})

    def measure(
        self, memory: Memory, sensors: Array, substeps: Array, qpos: Array, qvel: Array, action: Array
    ) -> tuple[Memory, Signals]:
        """Return the memory with its clock advanced and the signals of a control step.

        Args:
            memory: before the step.
            sensors, substeps, qpos, qvel, action: see :func:`dinorl.tasks.signals.measure`.
        """
        memory = tick(self.body, memory, self.env.gait_clock_frequency)
        return memory, measure(self.body, memory, sensors, substeps, qpos, qvel, action)

    def judge(self, memory: Memory, s: Signals, diverged: Array, limit: Array) -> Judgement:
        """Return what a control step came to.

        Args:
            memory: with its clock advanced.
            s: of the step.
            diverged: (n,) bool, unstable physics.
            limit: control steps before truncation, one number or (n,).
        """
        fell = self.fell(s)
        success = self.succeeded(s) & ~fell & ~diverged
        terminated = fell | diverged
        if self.ends_with_event:
            terminated = terminated | success
        paid = self.rewards(s, fell, diverged)
        reward = s.xp.zeros_like(s.height)
        for i in range(paid.shape[0]):  # term after term for any n: a sum over one column would be pairwise
            reward = reward + paid[i, ...]
        return Judgement(
            memory=remember(memory, s),
            observation=observe(s),
            paid=paid,
            reward=reward,
            success=success,
            terminated=terminated,
            truncated=(memory.steps >= limit) & ~terminated,
        )

    def rewards(self, s: Signals, fell: Array, diverged: Array) -> Array:
        """Return the (terms, n) weighted rewards of the active terms.

        Diverged animals get nothing; they and the fallen lose the bonus.
        """
        weights = self._active
        names = tuple(weights)
        values = [self.terms[name](s) for name in names if name in self.terms]
        if "fall_penalty" in weights:
            values.append(s.xp.astype(fell, s.height.dtype))
        real = {"dtype": s.height.dtype, "device": s.height.device}
        if not values:
            return s.xp.zeros((0, s.height.shape[0]), **real)
        paid = s.xp.stack(values, axis=0) * s.xp.asarray(list(weights.values()), **real)[:, None]
        paid = s.xp.where(diverged, s.xp.zeros_like(paid), paid)
        if self.bonus in weights:  # falling onto the target is no bite
            row = names.index(self.bonus)
            lost = (fell & (s.event_steps > 0)) | (diverged & (s.event_steps > 1))
            paid[row, :] = paid[row, :] - weights[self.bonus] * s.xp.astype(lost, paid.dtype)
        return paid

    def fell(self, s: Signals) -> Array:
        """Return (n,) bool: whether animals have fallen."""
        env = self.env
        return episode.fallen(
            s, env.healthy_z_range, env.max_tilt_angle, env.natural_pitch, env.nosedive_termination_threshold
        )

    def succeeded(self, s: Signals) -> Array:
        """Return (n,) bool: whether ``env.event_hold`` after the event is over."""
        return happened(s, self._hold)

    def targets(self, position_w: Array, heading_w: Array, u: Array) -> Array:
        """Return (n, 3) target positions ahead of animals with these headings, from (n, 3) uniform numbers."""
        return episode.place_target(position_w, heading_w, u, *self._target)
