"""A plain environment: one animal, one ``MjData``, a Python loop, as Gymnasium's ``MujocoEnv`` has it.

Same physics and task as :class:`dinorl.envs.batch.BatchEnv`. It is what the benchmark puts into Stable-Baselines3's
DummyVecEnv and SubprocVecEnv; nothing trains on it.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from dinorl._bench import plain_task
from dinorl._bench.plain_task import PlainMemory, PlainSignals, PlainTerm
from dinorl.config import Config
from dinorl.envs.task import Task
from dinorl.sim.model import Animal
from dinorl.tasks import episode
from dinorl.tasks.observation import pieces


class PlainEnv(gym.Env):
    """One animal at the stage of a composed config; random numbers come from ``np_random``."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.animal = Animal(cfg.species, cfg.sim)
        self.model, self.data = self.animal.model, mujoco.MjData(self.animal.model)
        self._task = Task(cfg, self.animal)  # its constants, knobs and weights; its array functions only for targets
        self._columns = plain_task.Columns(self._task.body)
        functions = dict(plain_task.TERMS)
        event = {cfg.species.event.keys[role]: term for role, term in plain_task.EVENT_TERMS.items()
                 if role in cfg.species.event.keys}  # fmt: skip
        self._paid: list[tuple[float, PlainTerm]] = [
            (weight, term) for key, term in (functions | event).items() if (weight := float(getattr(cfg.env, key)))
        ]
        self._substeps = np.empty((cfg.sim.frame_skip, self.model.nsensordata))
        self._home = self.model.key("home").id
        layout = self.animal.layout
        self._feet = len(layout.foot_touch)
        size = sum(p.size for p in pieces(self.model.nu, self._feet, len(layout.effector_pos)))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)
        self.memory: PlainMemory

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode: home pose with noise, a random heading, a new target."""
        super().reset(seed=seed)
        animal, noise, rng = self.animal, self.cfg.env.reset_noise_scale, self.np_random
        mujoco.mj_resetDataKeyframe(self.model, self.data, self._home)
        qpos, qvel = self.data.qpos.copy(), self.data.qvel.copy()
        low, high = self.model.jnt_range[self.model.actuator_trnid[:, 0]].T
        joints = qpos[animal.joint_qpos] + rng.uniform(-noise, noise, self.model.nu)
        qpos[animal.joint_qpos] = np.clip(joints, low, high)
        qvel[animal.joint_qvel] = rng.uniform(-noise, noise, self.model.nu)
        yaw = rng.uniform(-math.pi, math.pi)
        qpos[3], qpos[6] = math.cos(yaw / 2.0), math.sin(yaw / 2.0)
        target = self.draw_target(tuple(qpos[:2]), (math.cos(yaw), math.sin(yaw)))
        return self.begin(qpos, qvel, target, rng.random()), {}

    def begin(self, qpos: np.ndarray, qvel: np.ndarray, target: np.ndarray, phase: float) -> np.ndarray:
        """Begin an episode in a given state and return its first observation."""
        mujoco.mj_resetDataKeyframe(self.model, self.data, self._home)
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        self.data.mocap_pos[self.animal.target_mocap] = target
        self._task.body  # noqa: B018
        self.memory = PlainMemory(
            start=(0.0, 0.0),
            target_distance=0.0,
            phase=phase,
            action=np.zeros(self.model.nu),
            airborne=[0] * self._feet,
            last_touchdown=[-1] * len(self._task.body.foot_pairs),
            alternation=[0.0] * len(self._task.body.foot_pairs),
        )
        s = self._look()
        self.memory.start, self.memory.target_distance = s.position[:2], s.target_distance
        return self._observation(s)
