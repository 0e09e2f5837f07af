"""Environment speed: the batch, plain ``mj_step`` loops, one animal, and plain environments in Stable-Baselines3."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import mujoco
import numpy as np
from joblib import cpu_count
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from dinorl.benchmarks.plain_env import control, plain_env
from dinorl.config import Config
from dinorl.envs.batch import BatchEnv
from dinorl.envs.gym_env import DinoEnv
from dinorl.learners.vec_env import DinoVecEnv
from dinorl.sim.devices import missing_packages
from dinorl.sim.model import Animal

PLAIN_ENVIRONMENTS = 4
ACTIONS = 64  # random, repeated


class Contender(Protocol):
    """A measured program."""

    def run(self, seconds: float) -> float:
        """Step for about ``seconds`` and return environment steps per second."""

    def close(self) -> None:
        """Free its resources."""


class VecEnvContender:
    """Steps a VecEnv with random actions.

    Attributes:
        steps, episodes: environment steps and ended episodes so far.
    """

    def __init__(self, env: VecEnv) -> None:
        self._env = env
        env.seed(0)
        env.reset()
        shape = (ACTIONS, env.num_envs, *env.action_space.shape)  # type: ignore[misc]
        self._actions = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
        self._calls = 0
        self.steps = self.episodes = 0

    def run(self, seconds: float) -> float:
        """Step for about ``seconds`` and return environment steps per second."""
        began, before = time.perf_counter(), self.steps
        while (elapsed := time.perf_counter() - began) < seconds:
            done = self._env.step(self._actions[self._calls % ACTIONS])[2]
            self._calls += 1
            self.steps += self._env.num_envs
            self.episodes += int(done.sum())
        return (self.steps - before) / elapsed

    def close(self) -> None:
        """End the environment, its processes included."""
        self._env.close()


@dataclass(frozen=True)
class Motion:
    """An episode of one animal of the batch."""

    state: np.ndarray  # MuJoCo's first integration state
    commands: np.ndarray  # (steps, actuators) servo targets, rad


def record(cfg: Config, steps: int = 20_000, n: int = 32) -> list[Motion]:
    """Return the episodes of ``n`` animals in the batch under random actions.

    Args:
        steps: control steps, all animals together.
    """
    env = BatchEnv(cfg, n)
    env.seed(0)
    env.reset()
    rng = np.random.default_rng(0)
    began, motions = list(env.sim.state()["physics"]), list[Motion]()
    commanded: list[list[np.ndarray]] = [[] for _ in range(n)]
    for _ in range(max(1, steps // n)):
        done = env.step(rng.uniform(-1.0, 1.0, (n, *env.action_space.shape))).episodes.ids
        commands = control(env.animal, env.signals.action)
        for i in range(n):
            commanded[i].append(commands[i])
        if done.size:
            now = env.sim.state()["physics"]
        for i in done:
            motions.append(Motion(began[i], np.stack(commanded[i])))
            began[i], commanded[i] = now[i], []
    return motions + [Motion(began[i], np.stack(commanded[i])) for i in range(n) if commanded[i]]


class Limit:
    """Plain ``mj_step`` loops, one thread and ``MjData`` each: no observation, no reward.

    They replay the batch's episodes: physics costs depend on the pose.

    Attributes:
        steps: control steps so far, all threads together.
    """

    def __init__(self, cfg: Config) -> None:
        self._model, self._frame_skip = Animal(cfg.species, cfg.sim).model, cfg.sim.frame_skip
        self._data = [mujoco.MjData(self._model) for _ in range(cfg.sim.threads or cpu_count())]
        motions = record(cfg)
        self._motions = [motions[i :: len(self._data)] for i in range(len(self._data))]
        self.steps = 0

    def run(self, seconds: float) -> float:
        """Step for about ``seconds`` and return control steps per second, all threads together."""
        began = time.perf_counter()
        with ThreadPoolExecutor(len(self._data)) as pool:
            steps = sum(pool.map(partial(self._loop, began + seconds), self._data, self._motions))
        elapsed = time.perf_counter() - began
        self.steps += steps
        return steps / elapsed

    def _loop(self, until: float, data: mujoco.MjData, motions: list[Motion]) -> int:
        steps, again = 0, itertools.cycle(motions)
        while time.perf_counter() < until:
            motion = next(again)
            mujoco.mj_setState(self._model, data, motion.state, mujoco.mjtState.mjSTATE_INTEGRATION.value)
            for command in motion.commands:
                data.ctrl[:] = command
                mujoco.mj_step(self._model, data, nstep=self._frame_skip)
            steps += len(motion.commands)
        return steps

    def close(self) -> None:
        """Do nothing: threads end with each run."""


def warp_contender(cfg: Config) -> dict[str, Contender]:
    """Return the batch on MuJoCo Warp, on a GPU if there is one; nothing if Warp is not installed."""
    if missing_packages():
        return {}
    env = DinoVecEnv(replace(cfg, sim=replace(cfg.sim, backend="warp", device="auto")))
    contender = VecEnvContender(env)
    env.step(np.zeros((env.num_envs, *env.batch.action_space.shape)))  # compiles
    return {"warp": contender}


def environment_contenders(cfg: Config) -> dict[str, Contender]:
    """Return the contenders by their names in the report."""
    make = partial(plain_env, cfg)
    one = partial(DinoEnv, cfg=cfg)
    return {
        "batch": VecEnvContender(DinoVecEnv(cfg)),
        **warp_contender(cfg),
        "limit": Limit(cfg),
        "one": VecEnvContender(DummyVecEnv([one])),
        "plain": VecEnvContender(DummyVecEnv([make])),
        "dummy": VecEnvContender(DummyVecEnv([make] * PLAIN_ENVIRONMENTS)),
        "subproc": VecEnvContender(SubprocVecEnv([make] * PLAIN_ENVIRONMENTS)),
    }
