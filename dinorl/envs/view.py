"""What the Gymnasium views of the batch share: arguments, pickling, life cycle and pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from omegaconf import DictConfig

from dinorl.config import Config, build, to_container
from dinorl.envs.batch import BatchEnv
from dinorl.envs.checks import checked_limit
from dinorl.envs.registration import stage_config
from dinorl.envs.render import Camera, check_picture

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}


class View(ABC):
    """A batch of one stage, seen through Gymnasium.

    A copy or an unpickled view is a fresh one with the same arguments: physics cannot be copied.

    Args:
        n: animals.
        species, stage, cfg, render_mode, max_episode_steps, width, height, camera: as in
            :class:`dinorl.envs.gym_env.DinoEnv`.

    Raises:
        ValueError: a wrong render mode, limit, size or camera.
    """

    def __init__(
        self,
        n: int,
        *,
        species: str,
        stage: str,
        cfg: Config | None,
        render_mode: str | None,
        max_episode_steps: int | None,
        width: int,
        height: int,
        camera: str | int,
    ) -> None:
        if render_mode is not None and render_mode not in METADATA["render_modes"]:
            raise ValueError(f"render_mode={render_mode!r}: expected None or one of {METADATA['render_modes']}")
        self.render_mode: str | None = render_mode
        self.closed = False
        self._given_cfg, self._given_limit = cfg, max_episode_steps
        self._spec: EnvSpec | None = None
        self._picture = (width, height, camera)
        self._camera: Camera | None = None
        self._begun = False
        composed = stage_config(species, stage) if cfg is None else cfg
        limit = checked_limit(max_episode_steps, composed.env.max_episode_steps)
        self.batch = BatchEnv(composed, n)
        self.batch.max_episode_steps = limit
        check_picture(self.batch.animal.model, width, height, camera)
        self.metadata: dict[str, Any] = {**METADATA, "render_fps": self.batch.animal.fps}

    def _remember(self, **arguments: Any) -> None:
        """Keep the constructor's arguments for copies."""
        self._arguments = arguments

    def __getstate__(self) -> dict[str, Any]:
        """Return the constructor's arguments, the config as plain values: its class is made for the species."""
        cfg = None if self._given_cfg is None else to_container(self._given_cfg)
        return {"arguments": {**self._arguments, "cfg": cfg}, "spec": self._spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a fresh view with the same arguments."""
        arguments = dict(state["arguments"])
        if arguments["cfg"] is not None:
            arguments["cfg"] = build(DictConfig(arguments["cfg"]))
        self.__init__(**arguments)  # type: ignore[misc]
        if state["spec"] is not None:
            self.spec = state["spec"]

    @property
    def spec(self) -> EnvSpec | None:
        """How ``gym.make`` or ``gym.make_vec`` made this, or None."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec
        if spec is not None:
            self._use_limit_of(spec)

    @abstractmethod
    def _use_limit_of(self, spec: EnvSpec) -> None:
        """Set the time limit to that of a spec."""

    def _check_open(self, begun: bool) -> None:
        """Check that the view is open and, if it has to be, reset.

        Raises:
            ClosedEnvironmentError, ResetNeeded: it is not.
        """
        if self.closed:
            raise ClosedEnvironmentError(f"{type(self).__name__} is closed: make a new one")
        if begun and not self._begun:
            raise ResetNeeded(f"{type(self).__name__} was stepped before its first reset: call reset() first")

    def _draw(self, index: int) -> np.ndarray:
        """Return animal ``index`` as (height, width, 3) uint8."""
        self._check_open(begun=False)
        self._camera = self._camera or Camera(self.batch, *self._picture)
        return self._camera.picture(index)

    def _free(self) -> None:
        """Free the renderer, if there is one."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
