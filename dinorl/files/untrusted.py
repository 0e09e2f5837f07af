"""Reads untrusted files: arrays, JSON and YAML as data. Nothing in them is executed.

Pickles, links, pipes, oversized and damaged files raise a :class:`ConfigError` with their name.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinorl.config import ConfigError

LARGEST_TEXT = 1 << 20  # bytes
LARGEST_ARRAYS = 1 << 28  # bytes, unpacked
_DAMAGED = (
    OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, MemoryError, RecursionError, zipfile.BadZipFile
)  # fmt: skip


def read_arrays(path: Path, largest: int | None = LARGEST_ARRAYS) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file.

    Args:
        path: the file.
        largest: size limit, bytes; None: none, for own files.

    Raises:
        ConfigError: not an .npz file, too large, or it holds pickled objects.
    """
    _check_place(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if largest is not None and size > largest:
            raise ConfigError(f"{path}: {size:,} bytes unpacked; expected at most {largest:,}. It is not read")
        arrays = {}
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = file[name]
                if not isinstance(arrays[name], np.ndarray) or arrays[name].dtype.hasobject:
                    raise ValueError(f"{name} is no array of numbers")
        return arrays
    except ConfigError:
        raise
    except _DAMAGED as error:
        raise ConfigError(f"{path}: expected arrays of numbers, and nothing else is read: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file."""
    try:
        content = json.loads(_text(path))
        if not isinstance(content, dict):
            raise ValueError(f"found {type(content).__name__}")
        return content
    except ConfigError:
        raise
    except _DAMAGED as error:
        raise ConfigError(f"{path}: expected a JSON object: {error}") from error


def read_config(path: Path) -> DictConfig:
    """Return the mapping in a YAML file; refuse aliases and interpolations, which read the environment."""
    return parse_config(_text(path), path)


def parse_config(text: str, path: Path) -> DictConfig:
    """Return the mapping in a file's YAML text; see :func:`read_config`."""
    try:
        events = list(yaml.parse(text, Loader=yaml.SafeLoader))
        # "$\x7B…" is an interpolation too
        if any(isinstance(event, yaml.ScalarEvent) and "${" in event.value for event in events):
            raise ValueError("found an interpolation, ${…}")
        if len(events) < 3 or not isinstance(events[2], yaml.MappingStartEvent):
            raise ValueError("found something else")
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise ValueError("found an alias, *…")
        content = OmegaConf.create(text)
        assert isinstance(content, DictConfig)
        return content
    except (yaml.YAMLError, OmegaConfBaseException, *_DAMAGED) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: expected a plain YAML mapping: {first}") from error


def _text(path: Path) -> str:
    _check_place(path)
    size = path.stat().st_size
    if size > LARGEST_TEXT:
        raise ConfigError(f"{path}: {size:,} bytes; expected at most {LARGEST_TEXT:,}. It is not read")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected text: {error}") from error


def _check_place(path: Path) -> None:
    """Refuse anything but a plain file, such as links and pipes."""
    if path.is_symlink():
        raise ConfigError(f"{path}: expected a plain file, found a link, which is not followed")
    if not path.is_file():
        found = "something else" if path.exists() else "nothing"
        raise ConfigError(f"{path}: expected a plain file, found {found}")
