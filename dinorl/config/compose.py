"""Composes one stage's config without the command line, for notebooks and tests."""

from __future__ import annotations

from collections.abc import Sequence

from dinorl.config.explain import explain
from dinorl.config.schema import Config
from dinorl.config.strict import build
from dinorl.config.tree import conf_dir


def compose(overrides: Sequence[str] = ()) -> Config:
    """Compose one stage's config from overrides such as ``["species=trex", "stage=balance"]``.

    Raises:
        ConfigError: the config cannot be composed, or is invalid.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from dinorl.config.composer import Composer

    # keep a caller's Hydra
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return build(Composer(GlobalHydra.instance().config_loader(), from_shell=False)(overrides))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain(error, list(overrides)) from error
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().hydra = outer
