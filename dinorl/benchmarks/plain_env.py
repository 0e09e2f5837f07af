"""The plain contender: one animal as a Gymnasium ``MujocoEnv`` with physics only.

It steps the batch's model without a task: the observation is the state and the reward is constant, so it is cheaper.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.wrappers import TimeLimit

from dinorl.config import Config
from dinorl.sim.model import Animal


def control(animal: Animal, action: np.ndarray) -> np.ndarray:
    """Return servo targets, rad, of (…, actuators) actions: 0 is the home pose, ±1 are the joints' limits."""
    span = np.where(action > 0.0, animal.ctrl_high - animal.home_ctrl, animal.home_ctrl - animal.ctrl_low)
    targets: np.ndarray = animal.home_ctrl + action * span
    return targets


def plain_env(cfg: Config) -> gym.Env[np.ndarray, np.ndarray]:
    """Return the environment with the stage's time limit."""
    return TimeLimit(PlainEnv(cfg), cfg.env.max_episode_steps)


class PlainEnv(MujocoEnv):
    """One animal with the timestep, frame skip, health limits and reset noise of a composed config.

    The observation is ``qpos`` without x and y, then ``qvel``. An episode ends when the trunk leaves
    ``env.healthy_z_range``.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg, self.animal = cfg, Animal(cfg.species, cfg.sim)
        model = self.animal.model
        space = gym.spaces.Box(-np.inf, np.inf, (model.nq - 2 + model.nv,), np.float64)
        super().__init__(str(self.animal.path), cfg.sim.frame_skip, space)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Advance one control step; the reward is 1."""
        wanted = np.clip(action, -1.0, 1.0).astype(np.float64)
        self.do_simulation(control(self.animal, wanted), self.frame_skip)
        low, high = self.cfg.env.healthy_z_range
        healthy = low <= self.data.qpos[2] <= high
        return self._observation(), 1.0, not healthy, False, {}

    def reset_model(self) -> np.ndarray:
        """Put the animal into its home pose, with noise on the joints."""
        animal, noise = self.animal, self.cfg.env.reset_noise_scale
        qpos, qvel = animal.home_qpos.copy(), np.zeros(self.model.nv)
        qpos[animal.joint_qpos] += self.np_random.uniform(-noise, noise, self.model.nu)
        qvel[animal.joint_qvel] = self.np_random.uniform(-noise, noise, self.model.nu)
        self.set_state(qpos, qvel)  # type: ignore[no-untyped-call]
        return self._observation()

    def _observation(self) -> np.ndarray:
        return self.state_vector()[2:]

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Use the compiled model, which has the config's timestep."""
        return self.animal.model, mujoco.MjData(self.animal.model)

    def _set_action_space(self) -> gym.spaces.Box:
        self.action_space = gym.spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)
        return self.action_space
