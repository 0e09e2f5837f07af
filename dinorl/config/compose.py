"""Composes one stage's config without the command line, for notebooks and tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from dinorl.config.explain import explain
from dinorl.config.schema import Config
from dinorl.config.strict import build
from dinorl.config.tree import CONFIG_NAME, conf_dir


def compose(overrides: Sequence[str] = ()) -> Config:
    """Compose one stage's config from overrides such as ``["species=trex", "stage=balance"]``.

    Raises:
        ConfigError: the config cannot be composed, or is invalid.
    """
    from hydra.core.global_hydra import GlobalHydra

    from dinorl.config.composer import Composer

    with _hydra(overrides):
        return build(Composer(GlobalHydra.instance().config_loader(), from_shell=False)(overrides))


def merged_files(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Return the config files that a composition merges, in order, with their packages.

    Returns:
        (path in the tree without suffix, package), such as ``("base/ppo", "ppo")``.

    Raises:
        ConfigError: they cannot be composed.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    with _hydra(overrides):
        merged = GlobalHydra.instance().config_loader().compute_defaults_list(CONFIG_NAME, list(overrides), RunMode.RUN)
    return [(str(one.config_path), str(one.package or "")) for one in merged.defaults]


@contextlib.contextmanager
def _hydra(overrides: Sequence[str]) -> Iterator[None]:
    """Start Hydra for a moment; a caller's Hydra is kept, and errors are explained."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain(error, list(overrides)) from error
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().hydra = outer
