"""The batch with one animal as a ``gymnasium.Env``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from dinorl.config import Config
from dinorl.envs.checks import NO_LIMIT, checked_actions, checked_seeds, refuse_unknown_options
from dinorl.envs.render import HEIGHT, WIDTH
from dinorl.envs.view import METADATA, View
from dinorl.sim.model import CAMERA


class DinoEnv(View, gym.Env):
    """One animal at one stage.

    ``info`` always has the same keys: ``is_success``, ``diverged`` and ``reward_terms``, the sum of each reward term in
    the episode so far.

    Args:
        species: name of the species, as in ``conf/species``.
        stage: ``balance``, ``locomotion`` or ``behavior``.
        cfg: a composed config; default: that of the species and stage.
        render_mode: None or ``"rgb_array"``.
        max_episode_steps: control steps before truncation; -1: no limit; default: ``cfg.env.max_episode_steps``.
        width, height: of pictures, pixels.
        camera: name or id of a camera in the MJCF.

    Raises:
        ValueError: a wrong render mode, limit, size or camera.
    """

    metadata = METADATA

    def __init__(
        self,
        species: str = "trex",
        stage: str = "balance",
        cfg: Config | None = None,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        width: int = WIDTH,
        height: int = HEIGHT,
        camera: str | int = CAMERA,
    ) -> None:
        arguments: dict[str, Any] = dict(
            species=species, stage=stage, cfg=cfg, render_mode=render_mode, max_episode_steps=max_episode_steps,
            width=width, height=height, camera=camera,
        )  # fmt: skip
        super().__init__(1, **arguments)
        self._remember(**arguments)
        self.observation_space = self.batch.observation_space
        self.action_space = self.batch.action_space
        self._shape = self.action_space.shape
        self._seeded = False

    def _use_limit_of(self, spec: EnvSpec) -> None:
        """With its default config, leave the limit to ``gym.make``'s TimeLimit, which can be longer."""
        if self._given_cfg is None and self._given_limit is None:
            self.batch.max_episode_steps = NO_LIMIT

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode; the same seed gives the same one.

        Raises:
            ClosedEnvironmentError: it is closed.
            ValueError: there are options, or the seed is negative.
        """
        self._check_open(begun=False)
        refuse_unknown_options(options)
        checked_seeds(seed, 1)
        self._warn_of_shorter_limit()
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        if seed is not None:
            self.batch.seed(seed)
            self._seeded = True
        self._begun = True
        return self.batch.reset()[0], self._info(False, False)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance one control step.

        Raises:
            ClosedEnvironmentError, ResetNeeded: it is closed, or was never reset.
            ValueError: the action has another shape, or is not finite.
        """
        self._check_open(begun=True)
        step = self.batch.step(checked_actions(action, self._shape)[None], autoreset=False)
        info = self._info(step.success.item(), step.diverged.item())
        return step.observation[0], step.reward.item(), step.terminated.item(), step.truncated.item(), info

    def render(self) -> np.ndarray | None:
        """Return (height, width, 3) uint8, or None without ``render_mode``."""
        return None if self.render_mode is None else self._draw(0)

    def close(self) -> None:
        """Free the renderer, if there is one."""
        self._free()
        self.closed = True

    def _info(self, success: bool, diverged: bool) -> dict[str, Any]:
        sums = self.batch.sums
        terms = {name: sums[name].item() for name in self.batch.task.active()}
        return {"is_success": success, "diverged": diverged, "reward_terms": terms}

    def _warn_of_shorter_limit(self) -> None:
        """Warn if ``gym.make`` cut the last episode at its id's limit, before the given config's."""
        if self._given_cfg is None or self._spec is None or self._spec.id not in gym.registry:
            return
        wanted, done = self.batch.max_episode_steps, int(self.batch.memory.steps[0])
        if done < wanted and done == gym.registry[self._spec.id].max_episode_steps:
            gym.logger.warn(
                f"gym.make cut the episode at {done} steps, the limit of {self._spec.id}; cfg.env.max_episode_steps is "
                f"{wanted}: type gym.make(..., max_episode_steps={wanted})"
            )
