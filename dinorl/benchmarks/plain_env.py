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

from dinorl.benchmarks import plain_task
from dinorl.benchmarks.plain_task import PlainMemory, PlainSignals, PlainTerm
from dinorl.config import Config
from dinorl.envs.task import Task
from dinorl.sim.model import Animal
from dinorl.tasks import episode
from dinorl.tasks.observation import pieces


def control(animal: Animal, action: np.ndarray) -> np.ndarray:
    """Return the servo targets, rad, of actions in [-1, 1]: 0 is the home pose, -1 and 1 are each joint's limits."""
    span = np.where(action > 0.0, animal.ctrl_high - animal.home_ctrl, animal.home_ctrl - animal.ctrl_low)
    return animal.home_ctrl + action * span


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
        self._bonus: float = getattr(cfg.env, cfg.species.event.keys["bonus"])
        self._paid: list[tuple[float, PlainTerm]] = [
            (weight, term) for key, term in (functions | event).items() if (weight := float(getattr(cfg.env, key)))
        ]
        self._substeps = np.empty((cfg.sim.frame_skip, self.model.nsensordata))
        self._home = self.model.key("home").id
        self._push_at = 0
        layout = self.animal.layout
        self._feet = len(layout.foot_touch)
        self._width = sum(p.size for p in pieces(self.model.nu, self._feet, len(layout.effector_pos)))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self._width,), np.float32)
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
        bearing = yaw + episode.spread(rng.random(), self.cfg.env.first_target_bearing_range)
        target = self.draw_target(tuple(qpos[:2]), (math.cos(bearing), math.sin(bearing)))
        return self.begin(qpos, qvel, target, rng.random()), {}

    def begin(self, qpos: np.ndarray, qvel: np.ndarray, target: np.ndarray, phase: float) -> np.ndarray:
        """Begin an episode in a given state and return its first observation."""
        mujoco.mj_resetDataKeyframe(self.model, self.data, self._home)
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        self.data.mocap_pos[self.animal.target_mocap] = target
        self.memory = PlainMemory(
            start=(0.0, 0.0),
            target_distance=0.0,
            phase=phase,
            action=np.zeros(self.model.nu),
            airborne=[0] * self._feet,
            last_touchdown=[-1] * self._feet,
            alternation=[0.0] * len(self._task.body.foot_pairs),
        )
        s = self._look()
        self.memory.start, self.memory.target_distance, self.memory.nearest = s.position, s.target_distance, s.nearest
        return self._observation(s)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance one control step."""
        animal, data, env, memory, task = self.animal, self.data, self.cfg.env, self.memory, self._task
        wanted = np.clip(action, -1.0, 1.0).astype(np.float64)
        action = episode.follow(memory.action, wanted, animal.control_timestep, env.action_time_constant)
        data.ctrl[:] = control(animal, action)
        if env.push_interval:
            window = episode.push_window(animal.control_timestep, env.push_interval)
            if memory.steps % window == 0:
                self._push_at = int(window * self.np_random.uniform(0.25, 0.75))
            if memory.steps % window == self._push_at:
                angle = self.np_random.uniform(0.0, 2.0 * math.pi)
                data.qvel[:2] += env.push_speed * math.cos(angle), env.push_speed * math.sin(angle)
        for readings in self._substeps:
            mujoco.mj_step(self.model, data)
            readings[:] = data.sensordata
        memory.steps += 1
        memory.phase = (memory.phase + env.gait_clock_frequency * animal.control_timestep) % 1.0
        s = plain_task.measure(task.body, self._columns, memory, self._substeps, data.qpos, action)
        plain_task.take_turns(task.body, memory, s)

        fell = plain_task.fallen(s, env)
        success = s.event_steps == task.knobs.event_hold + 1 and not fell
        reward = sum(weight * term(s, task.knobs) for weight, term in self._paid) + env.fall_penalty * fell
        if fell and s.event_steps:
            reward -= self._bonus
        memory.action, memory.target_distance, memory.event_steps = action, s.target_distance, s.event_steps
        memory.nearest = s.nearest
        terminated = fell or (success and task.ends_with_event)
        truncated = memory.steps >= env.max_episode_steps and not terminated
        if not task.ends_with_event and s.target_distance < episode.TARGET_REACHED and not (terminated or truncated):
            data.mocap_pos[animal.target_mocap] = self.draw_target(s.position, s.heading)
            memory.nearest = math.inf
            seen = self._look()
            memory.nearest = seen.nearest
            seen.stance, memory.target_distance, memory.event_steps = s.stance, seen.target_distance, 0
            s = seen
        return self._observation(s), reward, terminated, truncated, {"is_success": success}

    def draw_target(self, position: tuple[float, ...], heading: tuple[float, ...]) -> np.ndarray:
        """Return a new target's (3,) position ahead of the animal."""
        return self._task.targets(np.array([position]), np.array([heading]), self.np_random.random((1, 3)))[0]

    def _look(self) -> PlainSignals:
        """Measure the animal as it is now, without a step behind it."""
        mujoco.mj_forward(self.model, self.data)
        return plain_task.measure(
            self._task.body,
            self._columns,
            self.memory,
            self.data.sensordata[None].copy(),
            self.data.qpos,
            self.memory.action,
        )

    def _observation(self, s: PlainSignals) -> np.ndarray:
        out = np.empty(self._width, np.float32)
        plain_task.observe(s, self.data.qvel[self._task.body.joint_qvel], out)
        return out
