"""The batch as a ``gymnasium.vector.VectorEnv`` and, with one animal, as a ``gymnasium.Env``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dinorl.config import Config, compose
from dinorl.envs.batch import BatchEnv, Step
from dinorl.envs.render import Camera

_FPS = 50


def _config(species: str, stage: str, cfg: Config | None) -> Config:
    return compose([f"species={species}", f"stage={stage}"]) if cfg is None else cfg


class DinoEnv(gym.Env):
    """One animal at one stage.

    Args:
        species: name of the species, as in ``conf/species``.
        stage: ``balance``, ``locomotion`` or ``behavior``.
        cfg: a composed config; default: that of the species and stage.
        render_mode: None or ``"rgb_array"``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": _FPS}

    def __init__(
        self, species: str = "trex", stage: str = "balance", cfg: Config | None = None, render_mode: str | None = None
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode={render_mode!r}: expected None or one of {self.metadata['render_modes']}")
        self.batch = BatchEnv(_config(species, stage, cfg), 1)
        self.metadata = {**self.metadata, "render_fps": self.batch.animal.fps}
        self.observation_space = self.batch.observation_space
        self.action_space = self.batch.action_space
        self.render_mode = render_mode
        self._camera: Camera | None = None
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode; the same seed gives the same one."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        if seed is not None:
            self.batch.seed(seed)
            self._seeded = True
        return self.batch.reset()[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance one control step."""
        step = self.batch.step(np.asarray(action)[None], autoreset=False)
        info: dict[str, Any] = {"is_success": bool(step.success[0])}
        if step.episodes.ids.size:
            info |= step.episodes.infos(0.0)[0]
            del info["episode"]  # RecordEpisodeStatistics uses this key
        return step.observation[0], float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), info

    def render(self) -> np.ndarray | None:
        """Return (480, 640, 3) uint8, or None without ``render_mode``."""
        if self.render_mode is None:
            return None
        self._camera = self._camera or Camera(self.batch)
        return self._camera.picture(0)

    def close(self) -> None:
        """Free the renderer, if there is one."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None


class DinoVectorEnv(VectorEnv):
    """All animals of one stage as one VectorEnv, with same-step autoreset.

    Args:
        num_envs: animals.
        species, stage, cfg, render_mode: as in :class:`DinoEnv`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": _FPS, "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        species: str = "trex",
        stage: str = "balance",
        cfg: Config | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.batch = BatchEnv(_config(species, stage, cfg), num_envs)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self.batch.animal.fps}
        self.single_observation_space = self.batch.observation_space
        self.single_action_space = self.batch.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._camera: Camera | None = None
        self._seeded = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new episodes. Animal ``i`` is seeded with ``seed + i``, or with the ``i``-th of a list of seeds."""
        if isinstance(seed, (list, tuple, np.ndarray)):
            for i, one in enumerate(seed):
                if one is not None:
                    self.batch.seed(int(one) - i, np.array([i]))
            self._seeded = True
        else:
            super().reset(seed=seed)
            if seed is None and not self._seeded:
                seed = int(self.np_random.integers(2**31))
            if seed is not None:
                self.batch.seed(seed)
                self._seeded = True
        return self.batch.reset(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every animal by one control step."""
        step = self.batch.step(actions)
        return step.observation, step.reward, step.terminated, step.truncated, self._info(step)

    def _info(self, step: Step) -> dict[str, Any]:
        """Return info in the layout of Gymnasium's SyncVectorEnv: arrays with a mask under ``_key``."""
        info: dict[str, Any] = {"is_success": step.success, "_is_success": np.ones(self.num_envs, dtype=bool)}
        ended = step.episodes
        if ended.ids.size:
            mask = np.zeros(self.num_envs, dtype=bool)
            mask[ended.ids] = True
            final_obs = np.full(self.num_envs, None, dtype=object)
            for row, i in enumerate(ended.ids):
                final_obs[i] = ended.observation[row]
            terms = {}
            for name, total in ended.terms.items():
                terms[name] = np.zeros(self.num_envs)
                terms[name][ended.ids] = total
                terms[f"_{name}"] = mask
            final: dict[str, Any] = {"is_success": step.success, "_is_success": mask}
            final |= {"reward_terms": terms, "_reward_terms": mask}
            info |= {"final_obs": final_obs, "_final_obs": mask, "final_info": final, "_final_info": mask}
        return info

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of every animal, each (480, 640, 3) uint8, or None without ``render_mode``."""
        if self.render_mode is None:
            return None
        self._camera = self._camera or Camera(self.batch)
        return tuple(self._camera.picture(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer, if there is one."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
