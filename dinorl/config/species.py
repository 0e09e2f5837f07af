"""Which species there are, and where their models lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

from omegaconf import OmegaConf

from dinorl.config.schema import EventConfig, SpeciesConfig
from dinorl.config.tree import conf_dir

SPECIES_DIR = Path(__file__).resolve().parent.parent / "species"


def mjcf_path(species: SpeciesConfig) -> Path:
    """Return the species' MJCF: a path in ``dinorl/species``, or an absolute one."""
    return SPECIES_DIR / species.mjcf


def mjcf_hash(species: SpeciesConfig) -> str:
    """Return the SHA-256 of the species' MJCF, the identity of the animal that a policy was trained on."""
    return hashlib.sha256(mjcf_path(species).read_bytes()).hexdigest()


def species_config(species: str) -> SpeciesConfig | None:
    """Return a species as its file in ``conf/species`` describes it, or None if there is none."""
    path = conf_dir() / "species" / f"{species}.yaml"
    if not path.is_file():
        return None
    node = OmegaConf.load(path).species
    event = EventConfig(node.event.name, list(node.event.effectors), dict(node.event["keys"]))
    return SpeciesConfig(node.name, node.title, node.gym_name, node.mjcf, list(node.feet), list(node.gait_phase), event)
