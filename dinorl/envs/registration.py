"""Registers ``dinorl/<Animal>-<Stage>-v0`` with Gymnasium for every species in ``conf/species``."""

from __future__ import annotations

import gymnasium as gym
from omegaconf import OmegaConf

from dinorl.config import STAGES, conf_dir
from dinorl.config.schema import stage_label

VERSION = 0


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
            gym.register(
                id=name,
                entry_point="dinorl.envs.gym_env:DinoEnv",
                vector_entry_point="dinorl.envs.gym_env:DinoVectorEnv",
                kwargs={"species": species, "stage": stage},
            )
