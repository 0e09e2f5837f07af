"""The batch as a ``gymnasium.vector.VectorEnv``, with the data of Gymnasium's SyncVectorEnv."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dinorl.config import Config
from dinorl.envs.batch import Episodes, Step
from dinorl.envs.checks import NO_LIMIT, checked_actions, checked_reset_mask, checked_seeds
from dinorl.envs.render import HEIGHT, WIDTH
from dinorl.envs.view import METADATA, View
from dinorl.sim.model import CAMERA

# Attributes of one animal, by their names here.
_SINGLE = {"observation_space": "single_observation_space", "action_space": "single_action_space"}
# Methods that act on all animals.
_WHOLE = ("reset", "step", "close")


class DinoVectorEnv(View, VectorEnv):
    """All animals of one stage as one VectorEnv.

    Args:
        num_envs: animals.
        species, stage, cfg, render_mode, max_episode_steps, width, height, camera: as in
            :class:`dinorl.envs.gym_env.DinoEnv`.
        autoreset_mode: an :class:`gymnasium.vector.AutoresetMode` or its value. ``"SameStep"``: an episode that ends is
            followed by the next one in the same step. ``"NextStep"``: in the next step, which ignores the animal's
            action and pays 0. ``"Disabled"``: after ``reset(options={"reset_mask": mask})``.

    Raises:
        ValueError: a wrong number of animals, mode, render mode, limit, size or camera.
    """

    metadata = {**METADATA, "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        species: str = "trex",
        stage: str = "balance",
        cfg: Config | None = None,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        width: int = WIDTH,
        height: int = HEIGHT,
        camera: str | int = CAMERA,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        if not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}: expected an integer ≥ 1")
        self.autoreset_mode = _mode(autoreset_mode)
        arguments: dict[str, Any] = dict(
            species=species, stage=stage, cfg=cfg, render_mode=render_mode, max_episode_steps=max_episode_steps,
            width=width, height=height, camera=camera,
        )  # fmt: skip
        super().__init__(num_envs, **arguments)
        self._remember(num_envs=num_envs, autoreset_mode=self.autoreset_mode, **arguments)
        self.num_envs = num_envs
        self.metadata["autoreset_mode"] = self.autoreset_mode
        self.single_observation_space = self.batch.observation_space
        self.single_action_space = self.batch.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._shape = (num_envs, *self.single_action_space.shape)
        self._seeded = np.zeros(num_envs, dtype=bool)
        self._ended = np.zeros(num_envs, dtype=bool)  # and not reset yet
        self._observation = np.zeros((num_envs, *self.single_observation_space.shape), dtype=np.float32)  # the last

    def _use_limit_of(self, spec: EnvSpec) -> None:
        """Let a given config's limit win: ``gym.make_vec`` passes the id's as if the caller had."""
        if self._given_cfg is not None and self._given_limit == spec.max_episode_steps:
            self.batch.max_episode_steps = self._given_cfg.env.max_episode_steps
        if (limit := self.batch.max_episode_steps) != NO_LIMIT:
            spec.max_episode_steps = spec.kwargs["max_episode_steps"] = self._arguments["max_episode_steps"] = limit

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: animal ``i`` is seeded with ``seed + i``, or with the ``i``-th of a list of seeds. None: its episodes
                go on in their sequence, or begin at a random seed.
            options: ``{"reset_mask": (n,) bool}`` resets these animals only. The others are not touched; their
                observations are their last ones.

        Raises:
            ClosedEnvironmentError: it is closed.
            ResetNeeded: the first reset leaves animals out.
            ValueError, TypeError: wrong seeds or options.
        """
        self._check_open(begun=False)
        mask = checked_reset_mask(options, self.num_envs)
        seeds = checked_seeds(seed, self.num_envs)
        if not (self._begun or mask.all()):
            raise ResetNeeded("the first reset must be of all animals: leave out options['reset_mask']")
        if seed is not None and not isinstance(seed, (list, tuple, np.ndarray)):
            VectorEnv.reset(self, seed=int(seed))
        chosen = np.flatnonzero(mask)
        for i in chosen.tolist():
            if (own := seeds[i]) is None and not self._seeded[i]:
                own = int(self.np_random.integers(2**31))
            if own is not None:
                self.batch.seed(own - i, np.array([i]))
        self._seeded[chosen] = True
        self._ended[chosen] = False
        self._begun = True
        self._observation[chosen] = self.batch.reset(chosen)
        nobody = np.zeros(self.num_envs, dtype=bool)
        return self._observation.copy(), self._info(mask, nobody, nobody, self.batch.sums)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every animal by one control step.

        Raises:
            ClosedEnvironmentError, ResetNeeded: it is closed, or an animal has to be reset first.
            ValueError: the actions have another shape, or are not finite.
        """
        self._check_open(begun=True)
        ended = self._ended
        if self.autoreset_mode is AutoresetMode.DISABLED and ended.any():
            raise ResetNeeded(
                f"the episodes of animals {np.flatnonzero(ended).tolist()} have ended: call "
                "reset(options={'reset_mask': terminated | truncated}) before the next step"
            )
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and ended.any():
            step = self._step_others(checked_actions(actions, self._shape, ended))
        else:
            same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
            step = self.batch.step(checked_actions(actions, self._shape), autoreset=same_step)
        self._ended = step.terminated | step.truncated
        np.copyto(self._observation, step.observation)
        return step.observation, step.reward, step.terminated, step.truncated, self._step_info(step)

    def _step_others(self, actions: np.ndarray) -> Step:
        """Begin new episodes where they have ended, and step the other animals."""
        ended, going = np.flatnonzero(self._ended), np.flatnonzero(~self._ended)
        # also when nobody goes on: a step of nobody
        step = self.batch.step(actions, autoreset=False, only=going)
        step.observation[ended] = self.batch.reset(ended)
        step.reward[ended] = 0.0
        for flags in (step.terminated, step.truncated, step.success, step.diverged):
            flags[ended] = False
        return step

    def _step_info(self, step: Step) -> dict[str, Any]:
        everybody = np.ones(self.num_envs, dtype=bool)
        ended = step.episodes
        if self.autoreset_mode is not AutoresetMode.SAME_STEP or not ended.ids.size:
            return self._info(everybody, step.success, step.diverged, self.batch.sums)
        going = ~(step.terminated | step.truncated)
        info = self._info(everybody, step.success & going, step.diverged & going, self.batch.sums)
        return info | self._final(ended, ~going)

    def _info(
        self, mask: np.ndarray, success: np.ndarray, diverged: np.ndarray, sums: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """Return info in the layout of SyncVectorEnv: (n,) arrays, 0 outside the mask, which is under ``_key``."""
        terms: dict[str, Any] = {}
        for name in self.batch.task.active():
            terms[name], terms[f"_{name}"] = np.where(mask, sums[name], 0.0), mask.copy()
        return {
            "is_success": success.copy(), "_is_success": mask.copy(),
            "diverged": diverged.copy(), "_diverged": mask.copy(),
            "reward_terms": terms, "_reward_terms": mask.copy(),
        }  # fmt: skip

    def _final(self, ended: Episodes, mask: np.ndarray) -> dict[str, Any]:
        """Return the last observations and infos of the animals that began anew in the same step."""
        last = np.full(self.num_envs, None, dtype=object)
        for row, i in enumerate(ended.ids):
            last[i] = ended.observation[row]
        whole = {name: np.zeros(self.num_envs) for name in ended.terms}
        for name, total in ended.terms.items():
            whole[name][ended.ids] = total
        success, diverged = np.zeros(self.num_envs, dtype=bool), np.zeros(self.num_envs, dtype=bool)
        success[ended.ids], diverged[ended.ids] = ended.success, ended.diverged
        info = self._info(mask, success, diverged, whole)
        return {"final_obs": last, "_final_obs": mask.copy(), "final_info": info, "_final_info": mask.copy()}

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method, or get an attribute, and return the result of each animal.

        Animals share everything but their pictures, so they all give the same.

        Raises:
            AttributeError: there is none of this name.
            ValueError: it acts on all animals at once.
        """
        if name in _WHOLE:
            raise ValueError(f"{name!r} acts on all animals: call {name}() of the vector environment")
        value = getattr(self._owner(name), _SINGLE.get(name, name))
        if callable(value):
            value = value(*args, **kwargs)
        return value if name == "render" and value is not None else (value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of each animal; a method is called, as in SyncVectorEnv."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute, which all animals share.

        Args:
            name: of this environment or of ``batch``.
            values: one value, or a list or tuple of one for each animal, all the same.

        Raises:
            AttributeError: there is none of this name.
            ValueError: the values are too few, too many, or not the same.
        """
        if isinstance(values, (list, tuple)):
            if len(values) != self.num_envs:
                raise ValueError(f"{name}: found {len(values)} values, expected one or {self.num_envs}")
            if any(value != values[0] for value in values):
                raise ValueError(f"{name}: found different values {values}; the animals share it, pass one value")
            values = values[0]
        setattr(self._owner(name), name, values)

    def _owner(self, name: str) -> Any:
        """Return who has an attribute: this environment or its batch."""
        for owner in (self, self.batch):
            if hasattr(owner, name):
                return owner
        raise AttributeError(f"{name!r}: found neither in {type(self).__name__} nor in its batch")

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of every animal, each (height, width, 3) uint8, or None without ``render_mode``."""
        return None if self.render_mode is None else tuple(self._draw(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer, if there is one."""
        self._free()


def _mode(value: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(value)
    except ValueError:
        modes = [mode.value for mode in AutoresetMode]
        raise ValueError(f"autoreset_mode={value!r}: expected an AutoresetMode or one of {modes}") from None
