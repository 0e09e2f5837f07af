"""Registers ``dinorl/<Animal>-<Stage>-v0`` with Gymnasium for every species that has a file in ``conf/species``."""

from __future__ import annotations

import gymnasium as gym
from omegaconf import OmegaConf

from dinorl.config import STAGES, conf_dir

VERSION = 0


def stage_title(stage: str, event: str) -> str:
    """Return how an id calls a stage: ``behavior`` goes by the species' event (``food_reach``: ``FoodReach``)."""
    return "".join(word.capitalize() for word in (event if stage == "behavior" else stage).split("_"))


def environment_ids() -> dict[str, tuple[str, str]]:
    """Return id → (species, stage) for every species and stage."""
    ids = {}
    for path in sorted(conf_dir().glob("species/*.yaml")):
        species = OmegaConf.load(path).species
        for stage in STAGES:
            ids[f"dinorl/{species.gym_name}-{stage_title(stage, species.event.name)}-v{VERSION}"] = (
                species.name,
                stage,
            )
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
