"""Lets Hydra accept keys of the command, which stages do not have.

Workers of Hydra's launchers unpickle the resolver by its name in this module.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from dinorl.config import SweepConfig
from dinorl.config.algorithms import left_out
from dinorl.config.explain import SCOPES
from dinorl.config.tree import search_values

PLANNING_GROUP, PLANNING_NODE = "planning", "scopes"


@lru_cache
def _new_name() -> str:
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{uuid.uuid4().hex[:6]}"


def _sweep_name(*, _root_: Any) -> str:
    """Return the name of the sweep's folder."""
    name = OmegaConf.select(_root_, "sweep.name")
    return _new_name() if name is None else str(name)


OmegaConf.register_new_resolver("dinorl.sweep_name", _sweep_name, replace=True)


@contextlib.contextmanager
def planning_keys() -> Iterator[None]:
    """Accept keys of stages, of any algorithm and of the command in Hydra's first composition, before any sweeper."""
    open_nodes = (*SCOPES, *left_out(""))
    command = {"sweep": asdict(SweepConfig()), "search": search_values()}
    node = OmegaConf.create({name: {} for name in open_nodes} | command)
    for name in open_nodes:
        OmegaConf.set_struct(node[name], False)
    ConfigStore.instance().store(
        group=PLANNING_GROUP, name=PLANNING_NODE, node=node, package="_global_", provider="dinorl"
    )
    try:
        yield
    finally:
        ConfigStore.instance().repo.pop(PLANNING_GROUP, None)


@contextlib.contextmanager
def without_planning_keys() -> Iterator[None]:
    """Compose jobs without these keys."""
    repo = ConfigStore.instance().repo
    taken = repo.pop(PLANNING_GROUP, None)
    try:
        yield
    finally:
        if taken is not None:
            repo[PLANNING_GROUP] = taken
