"""The batch as a Stable-Baselines3 VecEnv."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from dinorl.config import Config
from dinorl.envs.batch import BatchEnv, Episodes, Step
from dinorl.envs.mirror import mirror_of
from dinorl.envs.render import Camera
from dinorl.tasks.observation import clock


class DinoVecEnv(VecEnv):
    """All animals of one stage as one VecEnv, with ``Monitor``'s ``info["episode"]``.

    Args:
        cfg: the composed config.
        n: animals; default ``cfg.sim.n_envs``.
        stagger: cut first episodes at random lengths, so that resets spread out.
        render_mode: None or ``"rgb_array"``, which draws the first animal.
    """

    def __init__(
        self, cfg: Config, n: int | None = None, stagger: bool = False, render_mode: str | None = None
    ) -> None:
        self.batch = BatchEnv(cfg, n, stagger)
        self.render_mode = render_mode
        self.metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": self.batch.animal.fps}
        super().__init__(self.batch.n, self.batch.observation_space, self.batch.action_space)
        self._actions = np.zeros((self.batch.n, *self.batch.action_space.shape))
        self._camera: Camera | None = None
        self._begun = time.time()
        self._meanwhile: Callable[[], object] = lambda: None
        self._stepper: ThreadPoolExecutor | None = None
        self.drained: list[Episodes] = []

    def reset(self) -> VecEnvObs:
        """Begin new episodes for all; seeds of :meth:`seed` take effect."""
        if self._seeds[0] is not None:
            for i, seed in enumerate(self._seeds):
                if seed is not None:
                    self.batch.seed(int(seed) - i, np.array([i]))
        observation = self.batch.reset()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Advance every animal by one control step, with autoreset."""
        step = self._step()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = step.episodes
        if ended.ids.size:
            self.drained.append(ended)
            infos_of_ended = ended.infos(time.time() - self._begun)
            for i, info, last, cut in zip(
                ended.ids.tolist(), infos_of_ended, ended.observation, ended.truncated.tolist(), strict=True
            ):
                infos[i] = info | {"terminal_observation": last, "TimeLimit.truncated": cut}
        return step.observation, step.reward.astype(np.float32), step.terminated | step.truncated, infos

    def do_meanwhile(self, work: Callable[[], object], parallel: bool) -> None:
        """Call ``work`` in each step, before the step's result is known.

        Args:
            work: what does not need that result.
            parallel: step the batch at the same time, in a thread of its own.
        """
        self._meanwhile = work
        self._stepper = ThreadPoolExecutor(1) if parallel else None

    def _step(self) -> Step:
        if self._stepper is None:
            self._meanwhile()
            return self.batch.step(self._actions)
        stepping = self._stepper.submit(self.batch.step, self._actions)
        try:
            self._meanwhile()
        finally:
            wait([stepping])
        return stepping.result()

    def drain_episodes(self) -> list[Episodes]:
        """Return the episodes that ended since the last call."""
        drained, self.drained = self.drained, []
        return drained

    def close(self) -> None:
        """Free the renderer and the thread, if there are any."""
        if self._stepper is not None:
            self._stepper.shutdown()
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def render(self, mode: str | None = None) -> np.ndarray | None:
        """Return the first animal as (height, width, 3) uint8, or None without ``render_mode``."""
        if self.render_mode != "rgb_array":
            return None
        return self.get_images()[0]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return a picture of the first animal; the others are not drawn."""
        if self.render_mode != "rgb_array":
            return [None] * self.num_envs
        self._camera = self._camera or Camera(self.batch)
        return [self._camera.picture(0)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the environment, the same for every animal."""
        value = getattr(self if hasattr(self, attr_name) else self.batch, attr_name)
        return [value for _ in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the batch, which all animals share."""
        if len(self._chosen(indices)) != self.num_envs:
            raise ValueError(f"the animals share {attr_name!r}: set it for all of them (indices=None)")
        setattr(self.batch, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the batch once and return its result for each chosen animal."""
        answer = getattr(self.batch, method_name)(*args, **kwargs)
        return [answer for _ in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Return False for each: single animals have no environment to wrap."""
        return [False for _ in self._chosen(indices)]

    def _chosen(self, indices: VecEnvIndices) -> list[int]:
        return list(self._get_indices(indices))


class MirrorVecEnv(VecEnvWrapper):
    """Mirrors observations and actions in the second half of each stride."""

    def __init__(self, venv: DinoVecEnv) -> None:
        super().__init__(venv)
        self.batch = venv.batch
        self.mirror = mirror_of(self.batch.animal)

    def reset(self) -> VecEnvObs:
        """Begin new episodes for all."""
        observation = self.venv.reset()
        assert isinstance(observation, np.ndarray)
        return self._show(observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Mirror the actions back where observations were mirrored."""
        where = clock(np, self.batch.memory.phase)[:, 1] < 0.0
        self.venv.step_async(self.mirror.acted(actions, where))

    def step_wait(self) -> VecEnvStepReturn:
        """Return the step, mirrored in the second half of each stride."""
        observation, reward, done, infos = self.venv.step_wait()
        assert isinstance(observation, np.ndarray)
        for i in np.flatnonzero(done):
            infos[i]["terminal_observation"] = self._show(infos[i]["terminal_observation"][None])[0]
        return self._show(observation), reward, done, infos

    def _show(self, observation: np.ndarray) -> np.ndarray:
        return self.mirror.shown(observation, self.mirror.second_half(observation))
