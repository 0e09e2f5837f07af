"""Where ``conf/`` is, and the same defaults as on the command line for a notebook or a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from dinorl.config.schema import Config

CONFIG_NAME = "config"
_PACKAGE = Path(__file__).resolve().parent.parent


def conf_dir() -> Path:
    """Return the conf tree: beside the package in a checkout, inside it where a wheel was installed."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def base_values() -> DictConfig:
    """Return every key of ``conf/base`` with its default; what is optional is off there."""
    return OmegaConf.create({path.stem: OmegaConf.load(path) for path in (conf_dir() / "base").glob("*.yaml")})


def compose(overrides: Sequence[str] = ()) -> Config:
    """Compose one stage's config from overrides such as ``["species=trex", "stage=balance"]``.

    Raises:
        ConfigError: it cannot be composed, or is not a valid config.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from dinorl.config.explain import explain
    from dinorl.config.strict import build

    # a caller inside a Hydra application has a GlobalHydra already; it gets it back
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return build(hydra_compose(CONFIG_NAME, overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain(error, list(overrides)) from error
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().hydra = outer
