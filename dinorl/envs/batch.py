"""The batch: all animals of one stage, stepped together. Every environment API is a view of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np

from dinorl.config import Config
from dinorl.envs.alone import Alone, Given, compile_task
from dinorl.envs.task import Judgement, Task
from dinorl.sim.factory import make_simulation
from dinorl.sim.model import Animal
from dinorl.sim.random import uniform
from dinorl.tasks import episode
from dinorl.tasks.observation import columns, observe, part_counts
from dinorl.tasks.signals import Memory, Signals, fresh_memory, measure, rows

# Random streams; the last two add a step number.
_RESET, _FIRST_TARGET, _STAGGER = 0, 1, 2
_PUSH, _NEXT_TARGET = 1 << 32, 2 << 32

_MAX_FAULTS = 100
# (n,) attributes.
_COUNTERS = ("seeds", "episode", "_started", "returns", "lengths")


@dataclass(frozen=True)
class Episodes:
    """Episodes that ended in one step."""

    ids: np.ndarray  # (m,) which animals
    observation: np.ndarray  # (m, obs) before the reset
    returns: np.ndarray  # (m,)
    lengths: np.ndarray  # (m,) control steps
    success: np.ndarray  # (m,) bool
    truncated: np.ndarray  # (m,) bool, by the time limit
    diverged: np.ndarray  # (m,) bool, unstable physics
    terms: dict[str, np.ndarray]  # (m,) sum of each reward term

    def infos(self, elapsed: float) -> list[dict[str, Any]]:
        """Return each episode's ``info``: return, length, success and reward terms.

        Args:
            elapsed: s since training began, as in ``Monitor``.
        """
        sums = [total.tolist() for total in self.terms.values()]
        terms = list(zip(*sums, strict=True)) if sums else [()] * self.ids.size
        return [
            {
                "episode": {"r": self.returns[i].item(), "l": self.lengths[i].item(), "t": round(elapsed, 6)},
                "is_success": self.success[i].item(),
                "diverged": self.diverged[i].item(),
                "reward_terms": dict(zip(self.terms, own, strict=True)),
            }
            for i, own in enumerate(terms)
        ]


@dataclass(frozen=True)
class Fault:
    """A simulation that became unstable."""

    seed: int  # the animal's
    episode: int
    step: int  # control steps before
    state: np.ndarray  # integration state before the step, with commands


@dataclass(frozen=True)
class Step:
    """Result of one step."""

    observation: np.ndarray  # (n, obs) float32, after resets
    reward: np.ndarray  # (n,) float64
    terminated: np.ndarray  # (n,) bool
    truncated: np.ndarray  # (n,) bool
    success: np.ndarray  # (n,) bool, the event, without a fall
    diverged: np.ndarray  # (n,) bool, unstable physics
    episodes: Episodes


class BatchEnv:
    """``n`` animals at one stage.

    Animal ``i`` is seeded with ``seed + i``. Its episodes depend only on that seed and its actions, not on the batch
    size or the number of threads.

    Args:
        cfg: the composed config.
        n: animals; default ``cfg.sim.n_envs``.
        stagger: cut first episodes at random lengths, so that resets spread out.

    Attributes:
        push_scale: scale of ``env.push_speed``.
        bearing_scale: scale of ``env.first_target_bearing_range``.
        max_episode_steps: control steps before truncation; default ``env.max_episode_steps``.
        kept_term: a reward term, the unweighted values of which are kept in ``kept``.
        kept: (n,) its values in the last step.
        diverged: count of diverged simulations so far.
        faults: the first of them since the list was last cleared.
    """

    def __init__(self, cfg: Config, n: int | None = None, stagger: bool = False) -> None:
        self.cfg = cfg
        self.n = cfg.sim.n_envs if n is None else n
        self.animal = Animal(cfg.species, cfg.sim)
        self.task = Task(cfg, self.animal)
        self.sim = make_simulation(self.animal, cfg.sim, self.n)
        self.stagger = stagger
        self.push_scale = 1.0
        self.bearing_scale = 1.0
        self.max_episode_steps = cfg.env.max_episode_steps
        nu = self.animal.model.nu
        counts = part_counts(nu, len(cfg.species.feet), len(cfg.species.event.effectors))
        size = max(span.stop for span in columns(counts).values())
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (nu,), np.float32)
        self._signals: Signals | Given
        self._alone: Alone | None = None
        self._traceable = True
        self.kept_term: str | None = None
        self.kept = np.zeros(self.n)
        self.diverged = 0
        self.faults: list[Fault] = []
        self.seeds = np.arange(self.n, dtype=np.uint64)
        self.episode = np.zeros(self.n, dtype=np.int64)
        self._started = np.zeros(self.n, dtype=bool)
        self.returns = np.zeros(self.n)
        self.lengths = np.zeros(self.n, dtype=np.int64)
        self._sums = np.zeros((len(self.task.names), self.n))
        self.sums = dict(zip(self.task.names, self._sums, strict=True))  # its rows
        self._summed: Mapping[str, float] | None = None  # the terms of the first rows
        self._pushes: tuple[object, np.ndarray] = (None, np.zeros((self.n, 2)))
        self.memory: Memory = fresh_memory(self.task.body, self.sim.sensors, nu, np.zeros(self.n))
        flags = np.zeros(self.n, dtype=bool)
        self._nobody = self._ended(np.zeros(0, np.int64), np.zeros((self.n, size), np.float32), flags, flags, flags)
        self.seed(0)

    def seed(self, seed: int, ids: np.ndarray | None = None) -> None:
        """Seed animal ``i`` with ``seed + i``; takes effect at the next reset."""
        chosen = np.arange(self.n) if ids is None else ids
        self.seeds[chosen] = np.uint64(seed % (1 << 64)) + chosen.astype(np.uint64)
        self.episode[chosen] = 0
        self._started[chosen] = False

    def reset(self, ids: np.ndarray | None = None) -> np.ndarray:
        """Begin new episodes for the named animals (default: all) and return their (m, obs) observations."""
        ids = np.arange(self.n) if ids is None else np.asarray(ids)
        self._begin(ids)
        return np.asarray(observe(self._look(ids)))

    def step(self, action: np.ndarray, autoreset: bool = True, only: np.ndarray | None = None) -> Step:
        """Advance every animal by one control step.

        Args:
            action: (n, actuators); clipped to [-1, 1].
            autoreset: begin a new episode in the same step where one ended.
            only: (m,) step the physics of these animals only, to save time. Results of the others are undefined until
                :meth:`reset`. Default: all.
        """
        sim, task = self.sim, self.task
        action = self._filtered(action)
        self._push()
        sim.step(action, only)
        diverged = sim.diverged.copy()
        if np.count_nonzero(diverged):
            self._rescue(np.flatnonzero(diverged))
        judged = self._judge(action, diverged)
        self.memory, observation = judged.memory, judged.observation
        success, terminated, truncated = judged.success, judged.terminated, judged.truncated
        self._pay(judged)
        if self.kept_term is not None:
            self.kept = np.where(diverged, 0.0, task.terms[self.kept_term](self.signals))

        ended = terminated | truncated
        done = ended.nonzero()[0]
        episodes = self._ended(done, observation, success, truncated, diverged) if done.size else self._nobody
        if not task.ends_with_event:
            reached = (self.memory.target_distance < episode.TARGET_REACHED) | success
            self._move_targets((reached & ~ended).nonzero()[0], observation)
        if autoreset and done.size:
            observation[done] = self.reset(done)
        return Step(observation, judged.reward, terminated, truncated, success, diverged, episodes)

    def _ended(
        self, ids: np.ndarray, observation: np.ndarray, success: np.ndarray, truncated: np.ndarray, diverged: np.ndarray
    ) -> Episodes:
        """Return the (m,) named animals' episodes, from (n, …) arrays of the step."""
        return Episodes(
            ids=ids,
            observation=observation[ids],
            returns=self.returns[ids],
            lengths=self.lengths[ids],
            success=success[ids],
            truncated=truncated[ids],
            diverged=diverged[ids],
            terms={name: self.sums[name][ids] for name in self.task.active()},
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return the full state as arrays; see :meth:`restore`."""
        own = {name: getattr(self, name).copy() for name in _COUNTERS}
        memory = {f"memory/{name}": value.copy() for name, value in vars(self.memory).items()}
        sums = {f"sums/{name}": value.copy() for name, value in self.sums.items()}
        return own | memory | sums | self.sim.state() | {"diverged": np.asarray(self.diverged)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a :meth:`state` of as many animals at the same stage.

        Raises:
            ValueError, KeyError: it is of another batch or another version of dinorl.
        """
        for name, value in self.state().items():
            if (found := state[name].shape) != value.shape:
                raise ValueError(f"{name}: found {found}, expected {value.shape}")
        for name in _COUNTERS:
            getattr(self, name)[:] = state[name]
        self.memory = Memory(**{name: state[f"memory/{name}"].copy() for name in vars(self.memory)})
        for name, value in self.sums.items():
            value[:] = state[f"sums/{name}"]
        self.sim.restore(state)
        self.diverged = int(state["diverged"])

    def _filtered(self, action: np.ndarray) -> np.ndarray:
        """Return (n, actuators) servo commands in [-1, 1]."""
        wanted = np.asarray(action, dtype=np.float64).clip(-1.0, 1.0)
        time_constant = self.cfg.env.action_time_constant
        return np.asarray(episode.follow(self.memory.action, wanted, self.task.body.dt, time_constant))

    def _push(self) -> None:
        env = self.cfg.env
        if not (env.push_interval and env.push_speed):
            return
        steps = self.memory.steps
        window = episode.push_window(self.animal.control_timestep, env.push_interval)
        phase = steps % window
        if not np.count_nonzero((phase >= window // 4) & (phase <= 3 * window // 4)):  # outside the middle half
            return
        u = self._push_numbers(steps // window)
        change = episode.push_velocity(steps, u, window, self.push_scale * env.push_speed)
        pushed = change.any(axis=1).nonzero()[0]
        if pushed.size:
            self.sim.qvel[pushed, :2] += change[pushed]

    def _push_numbers(self, windows: np.ndarray) -> np.ndarray:
        """Return (n, 2) uniform numbers, which are the same for all steps of the (n,) windows."""
        key = (windows.tobytes(), self.episode.tobytes(), self.seeds.tobytes())
        if key != self._pushes[0]:
            self._pushes = (key, uniform(self.seeds, self.episode, _PUSH + windows, 2))
        return self._pushes[1]

    def _rescue(self, ids: np.ndarray) -> None:
        """Record diverged animals as faults and put them into the home pose, so that all signals are finite."""
        self.diverged += ids.size
        for i in ids[: max(0, _MAX_FAULTS - len(self.faults))]:
            self.faults.append(
                Fault(int(self.seeds[i]), int(self.episode[i]), int(self.memory.steps[i]), self.sim.before[i].copy())
            )
        self.sim.repair(ids)

    def _judge(self, action: np.ndarray, diverged: np.ndarray) -> Judgement:
        """Return what the step came to.

        Args:
            action: (n, actuators) servo commands.
            diverged: (n,) bool.
        """
        sim = self.sim
        physics = (sim.sensors, sim.substeps, sim.qpos, sim.qvel, action)
        alone = self._compiled(physics) if self.n == 1 and not diverged[0] else None
        if alone is not None:
            self._signals = alone.given(physics)
            judged = alone.step(physics, self.max_episode_steps)
            if judged is not None:
                return judged
        memory, self._signals = self.task.measure(self.memory, *physics)
        return self.task.judge(memory, self._signals, diverged, self.max_episode_steps)

    def _compiled(self, physics: tuple[np.ndarray, ...]) -> Alone | None:
        """Return the compiled task with this batch's memory and rewards; None if it cannot be compiled."""
        alone, terms = self._alone, self.task.active()
        if (alone is None or alone.memory is not self.memory or alone.terms is not terms) and self._traceable:
            alone = self._alone = compile_task(self.task, self.memory, physics)
            self._traceable = alone is not None
        return alone

    @property
    def signals(self) -> Signals:
        """Signals of the last step, before any reset."""
        if isinstance(self._signals, Given):
            self._signals = self._signals.signals()
        return self._signals

    def _pay(self, judged: Judgement) -> None:
        """Sum the rewards of a step."""
        active = self.task.active()
        if active is not self._summed:
            self._sort_sums(active)
        self._sums[: len(active)] += judged.paid
        self.returns += judged.reward
        self.lengths += 1

    def _sort_sums(self, active: Mapping[str, float]) -> None:
        """Put the sums of active terms first."""
        names = [*active, *(name for name in self.sums if name not in active)]
        self._sums = np.stack([self.sums[name] for name in names])
        self.sums, self._summed = dict(zip(names, self._sums, strict=True)), active

    def _move_targets(self, ids: np.ndarray, observation: np.ndarray) -> None:
        """Give the named animals a new target and update their rows of the (n, obs) observation."""
        if not ids.size:
            return
        s = self.signals
        u = uniform(self.seeds[ids], self.episode[ids], _NEXT_TARGET + self.memory.steps[ids], 3)
        self.sim.target[ids] = self.task.targets(s.position_w[ids], s.heading_w[ids], u)
        self.sim.refresh(ids)
        seen = self._look(ids)
        self.memory.target_distance[ids] = seen.target_distance
        self.memory.nearest[ids] = np.maximum(seen.effector_distance, 0.0)
        self.memory.event_steps[ids] = 0
        observation[ids] = observe(replace(seen, stance=s.stance[ids]))

    def _begin(self, ids: np.ndarray) -> None:
        """Begin the next episode of the named animals."""
        first = ~self._started[ids]
        self.episode[ids] += ~first
        self._started[ids] = True
        self.sim.reset(ids)
        phase = self._place(ids)
        self.sim.refresh(ids)
        self._forget(ids, phase, first)

    def _place(self, ids: np.ndarray) -> np.ndarray:
        """Set noisy pose, heading and target; return the (m,) clock phases."""
        sim, animal, env = self.sim, self.animal, self.cfg.env
        joints = animal.model.nu
        u = uniform(self.seeds[ids], self.episode[ids], _RESET, 2 * joints + 2)
        noise = env.reset_noise_scale * (2.0 * u - 1.0)
        pose = animal.home_qpos[animal.joint_qpos] + noise[:, :joints]
        sim.qpos[np.ix_(ids, animal.joint_qpos)] = np.clip(pose, animal.joint_low, animal.joint_high)
        sim.qvel[np.ix_(ids, animal.joint_qvel)] = noise[:, joints : 2 * joints]
        yaw = np.pi * (2.0 * u[:, -2] - 1.0)
        sim.qpos[ids, 3], sim.qpos[ids, 6] = np.cos(yaw / 2.0), np.sin(yaw / 2.0)

        heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        where = uniform(self.seeds[ids], self.episode[ids], _FIRST_TARGET, 4)
        bearing = [self.bearing_scale * end for end in env.first_target_bearing_range]
        towards = episode.turn(heading, where[:, 3], bearing)
        sim.target[ids] = self.task.targets(sim.qpos[ids, :2], towards, where[:, :3])
        return u[:, -1]

    def _forget(self, ids: np.ndarray, phase: np.ndarray, first: np.ndarray) -> None:
        """Reset memory and sums of the named animals; ``first`` (m,): in their first episode."""
        fresh = fresh_memory(self.task.body, self.sim.sensors[ids], self.animal.model.nu, phase)
        if self.stagger and first.any():
            cut = uniform(self.seeds[ids], self.episode[ids], _STAGGER, 1)[:, 0]
            fresh = replace(fresh, steps=np.where(first, (cut * self.max_episode_steps).astype(np.int64), 0))
        for name, value in vars(fresh).items():
            getattr(self.memory, name)[ids] = value
        self.returns[ids] = 0.0
        self.lengths[ids] = 0
        self._sums[:, ids] = 0.0

    def _look(self, ids: np.ndarray) -> Signals:
        """Measure the named animals after a reset."""
        sim = self.sim
        sensors = sim.sensors[ids]
        memory = rows(self.memory, ids)
        return measure(
            self.task.body, memory, sensors, sensors[:, None, :], sim.qpos[ids], sim.qvel[ids], memory.action
        )
