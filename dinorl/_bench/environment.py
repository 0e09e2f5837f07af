"""Environment-only speed: our batch, the limit, and plain environments in Stable-Baselines3's vectorisers."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import mujoco
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from dinorl._bench.plain_env import PlainEnv, control
from dinorl.config import Config
from dinorl.envs.vec_env import DinoVecEnv
from dinorl.sim.model import Animal

PLAIN_ENVIRONMENTS = 4
# So many random actions, uniform in [-1, 1], are drawn beforehand and played round and round.
ACTIONS = 64
# Control steps between two looks at the clock
CLOCK_EVERY = 16


class Contender(Protocol):
    """Something whose speed is measured, a while at a time."""

    def run(self, seconds: float) -> float:
        """Step for about so long and return environment steps per second."""

    def close(self) -> None:
        """Free what it holds."""


class VecEnvContender:
    """Steps a VecEnv with random actions.

    Attributes:
        steps, episodes: environment steps done and episodes ended so far.
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
        """Step for about so long and return environment steps per second."""
        begun, before = time.perf_counter(), self.steps
        while (elapsed := time.perf_counter() - begun) < seconds:
            done = self._env.step(self._actions[self._calls % ACTIONS])[2]
            self._calls += 1
            self.steps += self._env.num_envs
            self.episodes += int(done.sum())
        return (self.steps - before) / elapsed

    def close(self) -> None:
        """End the environment, its processes included."""
        self._env.close()


class Limit:
    """Plain ``mj_step`` loops, a thread and an ``MjData`` each, with random controls; no observation, no reward.

    Args:
        cfg: the composed config, for the model and the number of threads.
        episode: control steps after which each loop starts over from the home pose, the mean length of the batch's
            episodes. Without it the animals would lie on the ground, which costs other physics than falling does.

    Attributes:
        steps: control steps done so far, all threads together.
    """

    def __init__(self, cfg: Config, episode: int) -> None:
        animal = Animal(cfg.species, cfg.sim)
        self._model, self._frame_skip, self._episode = animal.model, cfg.sim.frame_skip, episode
        self._data = [mujoco.MjData(animal.model) for _ in range(cfg.sim.threads or os.cpu_count() or 1)]
        actions = np.random.default_rng(0).uniform(-1.0, 1.0, (ACTIONS, animal.model.nu))
        self._ctrl = np.stack([control(animal, action) for action in actions])
        self.steps = 0

    def run(self, seconds: float) -> float:
        """Step for about so long and return control steps per second, all threads together."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(len(self._data)) as pool:
            steps = sum(pool.map(partial(self._loop, begun + seconds), self._data))
        elapsed = time.perf_counter() - begun
        self.steps += steps
        return steps / elapsed

    def _loop(self, until: float, data: mujoco.MjData) -> int:
        home, steps = self._model.key("home").id, 0
        while steps % CLOCK_EVERY or time.perf_counter() < until:
            if steps % self._episode == 0:
                mujoco.mj_resetDataKeyframe(self._model, data, home)
            data.ctrl[:] = self._ctrl[steps % ACTIONS]
            mujoco.mj_step(self._model, data, nstep=self._frame_skip)
            steps += 1
        return steps

    def close(self) -> None:
        """Nothing to free: the threads end with each run."""


def mean_episode(cfg: Config) -> int:
    """Return how many control steps an animal that acts at random lasts, on average."""
    env = VecEnvContender(DinoVecEnv(cfg, 32))
    while env.steps < 10_000 or not env.episodes:
        env.run(0.1)
    return max(1, round(env.steps / env.episodes))


def environment_contenders(cfg: Config) -> dict[str, Contender]:
    """Return what is compared, by its name in the report."""
    make = partial(PlainEnv, cfg)
    return {
        "batch": VecEnvContender(DinoVecEnv(cfg)),
        "limit": Limit(cfg, mean_episode(cfg)),
        "dummy": VecEnvContender(DummyVecEnv([make] * PLAIN_ENVIRONMENTS)),
        "subproc": VecEnvContender(SubprocVecEnv([make] * PLAIN_ENVIRONMENTS)),
    }
