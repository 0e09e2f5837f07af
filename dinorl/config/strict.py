"""Strict rebuild of a composed config: unknown keys, types and ranges are checked.

Hydra's ``+key=value`` adds stray keys to any node, dataclass or not, so the composed config is checked afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinorl.config.algorithms import left_out
from dinorl.config.check import checked, keys_of
from dinorl.config.env import parameters_of
from dinorl.config.errors import ConfigError, UnknownKey, unknown_key
from dinorl.config.schema import Config, SpeciesConfig, config_type
from dinorl.config.species import foreign_env_key
from dinorl.config.together import check_together

# Kept in converted recipes, unused.
FOREIGN = ("jax",)


def build(cfg: DictConfig) -> Config:
    """Rebuild a composed config strictly.

    Raises:
        ConfigError: a key is unknown, a type is wrong, a value is out of range, or values conflict.
    """
    try:
        content = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0], key=error.full_key or "config") from error
    algorithm, species = _chosen(content, "algo"), _chosen(content, "species")
    # an experiment may set options of every algorithm
    ignored = {*FOREIGN, "hydra", *left_out(algorithm)}
    content = {key: value for key, value in content.items() if key not in ignored}
    try:
        built = checked(config_type(algorithm), content)
    except UnknownKey as error:
        known = known_keys(_animal(content), algorithm)
        raise foreign_env_key(error.key, species) or unknown_key(error.key, known) from None
    check_together(built)
    return built


def _animal(content: dict[str, Any]) -> SpeciesConfig | None:
    """Return the species, which may be a user's own; None if it is invalid."""
    try:
        return checked(SpeciesConfig, content["species"], "species.")
    except (ConfigError, KeyError):
        return None


def _chosen(content: dict[str, Any], group: str) -> str:
    """Return a group's name; empty if there is none."""
    node = content.get(group)
    return str(node.get("name")) if isinstance(node, dict) else ""


def to_container(cfg: Config) -> dict[str, Any]:
    """Return a config as plain dictionaries and lists, the inverse of :func:`build`."""
    return dataclasses.asdict(cfg)


def flatten(cfg: Config) -> dict[str, Any]:
    """Return a config as ``{"ppo.learning_rate": …}``; lists stay lists."""

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(walk(to_container(cfg), ""))


def known_keys(species: SpeciesConfig | None = None, algorithm: str = "") -> list[str]:
    """Return every key that can be set.

    Args:
        species: its event's keys are included.
        algorithm: its node is included.
    """
    env = [f"env.{name}" for name in parameters_of(species.event.keys if species else {})]
    return [key for name in keys_of(config_type(algorithm)) for key in (env if name == "env" else [name])]
