"""Where ``conf/`` is, and what lies in it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

CONFIG_NAME = "config"
_PACKAGE = Path(__file__).resolve().parent.parent


def conf_dir() -> Path:
    """Return the conf tree: beside the package in a checkout, inside it where a wheel was installed."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def base_values() -> DictConfig:
    """Return every key of ``conf/base`` with its default; what is optional is off there."""
    return OmegaConf.create({path.stem: OmegaConf.load(path) for path in (conf_dir() / "base").glob("*.yaml")})


def groups(group: str) -> list[str]:
    """Return the options of a config group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))
