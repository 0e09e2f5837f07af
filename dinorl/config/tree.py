"""Finds and reads the ``conf/`` tree."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

CONFIG_NAME = "config"
_PACKAGE = Path(__file__).resolve().parent.parent


def conf_dir() -> Path:
    """Return the conf tree: beside the package in a checkout, inside it in a wheel."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def base_values() -> DictConfig:
    """Return every key of ``conf/base`` with its default."""
    return OmegaConf.create({path.stem: OmegaConf.load(path) for path in (conf_dir() / "base").glob("*.yaml")})


def search_values() -> DictConfig:
    """Return every key of ``conf/search.yaml`` with its default."""
    loaded = OmegaConf.load(conf_dir() / "search.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


def options(group: str) -> list[str]:
    """Return the options of a config group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))


@lru_cache
def defaults() -> dict[str, str | None]:
    """Return the config groups with the default option of ``config.yaml``."""
    listed = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml").defaults)
    assert isinstance(listed, list)
    choices = [(str(group), option) for one in listed if isinstance(one, dict) for group, option in one.items()]
    return {group: option for group, option in choices if " " not in group}  # optional local, override hydra/…


def top_keys() -> set[str]:
    """Return the top-level keys of the composed config."""
    composed = OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml")
    nodes = {path.stem for pattern in ("*/", "base/*.yaml") for path in conf_dir().glob(pattern)}
    return nodes | {str(key) for key in composed}
