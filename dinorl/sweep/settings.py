"""``sweep.*``: the keys of the command, which no stage has; and how Hydra comes to accept them.

Workers of Hydra's launchers unpickle the resolver below by its name here.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from dinorl.config.errors import unknown_key, wrong_value
from dinorl.config.explain import SCOPES

PLANNING_GROUP, PLANNING_NODE = "planning", "scopes"
_FOLDER_NAME = re.compile(r"[^/\\\s.-][^/\\\x00-\x1f]*")
_LONGEST_NAME = 200  # bytes; file systems allow 255


@dataclass(frozen=True)
class SweepConfig:
    """The values of ``sweep.*``."""

    name: str | None = None  # folder below outputs/; null: time and id
    retries: int = 1  # of a lost job
    isolate: bool = True  # false: for a debugger

    @classmethod
    def of(cls, node: DictConfig) -> SweepConfig:
        """Check composed values.

        Raises:
            ConfigError: a key is unknown or a value is wrong.
        """
        known = [field.name for field in fields(cls)]
        for key in map(str, node):
            if key not in known:
                raise unknown_key(f"sweep.{key}", [f"sweep.{name}" for name in known])
        name, retries = node.get("name"), node.get("retries", cls.retries)
        isolate = node.get("isolate", cls.isolate)
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise wrong_value("sweep.retries", retries, "a whole number 0 or more", 1)
        if not isinstance(isolate, bool):
            raise wrong_value("sweep.isolate", isolate, "true or false", "false")
        if name is not None:
            text = str(name)
            good = _FOLDER_NAME.fullmatch(text) and len(text.encode()) <= _LONGEST_NAME
            if not isinstance(name, str | int | float) or not good:
                raise wrong_value("sweep.name", name, "the name of a folder below outputs/", "first")
            name = text
        return cls(name, retries, isolate)


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
    """Accept stage-scoped keys and ``sweep.*`` in Hydra's first composition, which runs before any sweeper."""
    node = OmegaConf.create({scope: {} for scope in SCOPES} | {"sweep": asdict(SweepConfig())})
    for scope in SCOPES:
        OmegaConf.set_struct(node[scope], False)
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
