"""Composes stages with Hydra; for equal choices of config groups once, then only values are set.

Hydra takes 0.1 s a composition, most of it for the defaults list.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dinorl.config import tree

# Top-level keys of config.yaml that are no groups.
_VALUES = ("seed", "warm_start", "resume", "plan_only")
_OWN = {"hydra": "pkg://hydra.conf", "main": "", "schema": "structured://"}
_LARGEST = 200  # configs, of 20 kB
# Pickled, so that nobody changes them; with the nodes whose ids are in the key, so that no other node gets these ids.
_composed: dict[tuple[Any, ...], tuple[bytes, list[Any]]] = {}


class Composer:
    """Composes stages from one state of the conf tree.

    Args:
        loader: Hydra's.
        always: overrides before all others, such as ``hydra.searchpath``.
        from_shell: whether error messages quote for a shell.
    """

    def __init__(self, loader: ConfigLoader, always: Sequence[str] = (), from_shell: bool = True) -> None:
        self._loader, self._always, self._from_shell = loader, list(always), from_shell
        self._nodes = list(_stored(ConfigStore.instance().repo))
        self._state = (_files(), tuple(map(id, self._nodes)))
        places = {place.provider: place.path for place in loader.get_search_path().get_path()}
        shared = places == _OWN | {"main": str(tree.conf_dir())} and not always
        self._composed = _composed if shared else {}  # files elsewhere are not watched

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """Return a stage's config, without the node ``hydra``.

        Raises:
            HydraException, OmegaConfBaseException, YAMLError: see Hydra.
        """
        try:
            groups, values = _split(overrides)
            config = self._of_groups(tuple(groups))
            for override in values:  # as Hydra does
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
            return config
        except (_Unusual, HydraException, OmegaConfBaseException):
            return self._by_hydra(overrides)

    def _of_groups(self, groups: tuple[str, ...]) -> DictConfig:
        key = (*self._state, groups)
        if key not in self._composed:
            if len(self._composed) >= _LARGEST:
                self._composed.clear()
            config = self._by_hydra(groups)
            self._composed[key] = pickle.dumps(config), self._nodes
            return config
        copy: DictConfig = pickle.loads(self._composed[key][0])
        return copy

    def _by_hydra(self, overrides: Sequence[str]) -> DictConfig:
        config = self._loader.load_configuration(
            config_name=tree.CONFIG_NAME,
            overrides=[*self._always, *overrides],
            run_mode=RunMode.RUN,
            from_shell=self._from_shell,
        )
        if len(config.hydra.runtime.config_sources) > len(_OWN):  # hydra.searchpath in config.yaml
            self._composed = {}
        with open_dict(config):
            del config["hydra"]
        return config


class _Unusual(Exception):
    """Overrides that Hydra itself must compose."""


def _split(overrides: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Return the choices of groups, and the overrides of values."""
    groups: list[str] = []
    values: list[Override] = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if override.type != OverrideType.CHANGE or override.package is not None or override.is_sweep_override():
            raise _Unusual
        if key in tree.defaults() and not isinstance(override.value(), dict):
            groups.append(str(override.input_line))
        elif (key in _VALUES or "." in key) and "/" not in key and not key.startswith("hydra."):
            values.append(override)
        else:
            raise _Unusual
    return groups, values


def _files() -> tuple[tuple[str, int, int], ...]:
    """Return path, time and size of the conf tree's files."""
    found = []
    for folder, _, names in os.walk(tree.conf_dir(), followlinks=True):
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):  # a broken link, such as an editor's lock
                about = os.stat(path)
                found.append((path, about.st_mtime_ns, about.st_size))
    return tuple(sorted(found))


def _stored(repo: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the nodes of Hydra's ConfigStore."""
    for value in repo.values():
        if isinstance(value, dict):
            yield from _stored(value)
        else:
            yield value
