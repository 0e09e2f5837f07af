"""Species and their models."""

from __future__ import annotations

import hashlib
from pathlib import Path

from omegaconf import OmegaConf

from dinorl.config.check import checked
from dinorl.config.errors import ConfigError
from dinorl.config.schema import SpeciesConfig
from dinorl.config.tree import conf_dir, options

SPECIES_DIR = Path(__file__).resolve().parent.parent / "species"


def mjcf_path(species: SpeciesConfig) -> Path:
    """Return the species' MJCF: a path in ``dinorl/species``, or an absolute one."""
    return SPECIES_DIR / species.mjcf


def mjcf_hash(species: SpeciesConfig) -> str:
    """Return the SHA-256 of the species' MJCF, the identity of an animal."""
    return hashlib.sha256(mjcf_path(species).read_bytes()).hexdigest()


def species_config(species: str) -> SpeciesConfig | None:
    """Return a species from its file in ``conf/species``, or None if there is none.

    Raises:
        ConfigError: the file is invalid.
    """
    path = conf_dir() / "species" / f"{species}.yaml"
    if not path.is_file():
        return None
    return checked(SpeciesConfig, OmegaConf.to_container(OmegaConf.load(path).species), "species.")


def foreign_env_key(key: str, species: str) -> ConfigError | None:
    """Return the error of a key of another animal's event, or None."""
    node, _, name = key.partition(".")
    if node != "env":
        return None
    animals = {name: species_config(name) for name in options("species")}
    events = {animal.name: animal.event.keys for animal in animals.values() if animal is not None}
    owners = [owner for owner, keys in events.items() if name in keys.values()]
    if not owners or species not in events or species in owners:
        return None
    role = next(role for role, own in events[owners[0]].items() if own == name)
    instead = events[species].get(role)
    return ConfigError(
        f"means nothing for species={species}; it is a key of {', '.join(owners)}",
        key=key,
        hint=f"Type env.{instead}=…" if instead else "",
    )
