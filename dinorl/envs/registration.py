"""Registers ``dinorl/<Animal>-<Stage>-v0`` with Gymnasium for every species in ``conf/species``."""

from __future__ import annotations

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from omegaconf import OmegaConf

from dinorl.config import STAGES, Config, compose, conf_dir
from dinorl.config.schema import stage_label

VERSION = 0

# (species, stage) → env.max_episode_steps, as last composed.
_limits: dict[tuple[str, str], int] = {}


def stage_config(species: str, stage: str) -> Config:
    """Return the composed config of a stage without overrides."""
    cfg = compose([f"species={species}", f"stage={stage}"])
    _limits[species, stage] = cfg.env.max_episode_steps
    return cfg


class StageSpec(EnvSpec):
    """The spec of a stage. Its time limit is composed when it is first read: all of them would take seconds."""

    def __init__(self, name: str, species: str, stage: str) -> None:
        self._stage = (species, stage)
        super().__init__(
            id=name,
            entry_point="dinorl.envs.gym_env:DinoEnv",
            vector_entry_point="dinorl.envs.vector_env:DinoVectorEnv",
            kwargs={"species": species, "stage": stage},
        )

    @property
    def max_episode_steps(self) -> int | None:
        """``env.max_episode_steps`` of the stage, unless it was set."""
        if self._limit is None and self._stage not in _limits:
            stage_config(*self._stage)
        return _limits[self._stage] if self._limit is None else self._limit

    @max_episode_steps.setter
    def max_episode_steps(self, value: int | None) -> None:
        self._limit = value


def environment_ids() -> dict[str, tuple[str, str]]:
    """Return id → (species, stage) for every species and stage."""
    ids = {}
    for path in sorted(conf_dir().glob("species/*.yaml")):
        species = OmegaConf.load(path).species
        for stage in STAGES:
            title = "".join(word.capitalize() for word in stage_label(stage, species.event.name).split("_"))
            ids[f"dinorl/{species.gym_name}-{title}-v{VERSION}"] = (species.name, stage)
    return ids


def register_all() -> None:
    """Register every id that is not registered yet."""
    for name, (species, stage) in environment_ids().items():
        if name not in gym.registry:
            gym.registry[name] = StageSpec(name, species, stage)
