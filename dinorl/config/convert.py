"""``dinorl convert DIR``: turns a folder of TOML stage files into a recipe.

    DIR/<species>/stage<n>_<anything>.toml   →   conf/recipe/<name>/<species>/<stage>.yaml
    its table [jax]                          →   conf/recipe/<name>/<species>/<stage>/gpu.yaml, for experiment=gpu

Values stay as they are. Keys that do not fit are listed with the reason.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dinorl.config import ALGORITHMS, STAGES, ConfigError, SpeciesConfig, conf_dir
from dinorl.config.errors import nearest, unknown_option
from dinorl.config.gpu_tables import overlay
from dinorl.config.schema import stage_label
from dinorl.config.species import species_config
from dinorl.config.strict import FOREIGN, known_keys
from dinorl.config.tree import options

# Tables that become nodes.
TABLES = ("env", *ALGORITHMS, "curriculum")
_STAGE_FILE = re.compile(r"stage([123])\w*\.toml$")


@dataclass
class Converted:
    """A stage file as a recipe file."""

    source: Path
    species: str
    stage: str
    content: dict[str, Any]
    gpu: dict[str, Any] = field(default_factory=dict)  # overlay for experiment=gpu
    not_taken: list[tuple[str, str]] = field(default_factory=list)  # key, reason


def convert_file(path: Path, species: SpeciesConfig, stage: str) -> Converted:
    """Convert one stage file.

    Raises:
        ConfigError: the file is not TOML.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    known = set(known_keys(species))
    result = Converted(path, species.name, stage, {})
    called = tables.pop("stage", {})
    own_name = stage_label(stage, species.event.name)
    for key, value in called.items():
        if key == "name" and value in (own_name, stage):
            continue  # follows from the path
        result.not_taken.append((f"stage.{key}", f"{value!r}: this stage of {species.name} is called {own_name}"))
    for name, table in tables.items():
        if name in FOREIGN:
            result.content[name] = table  # for the record
            result.gpu, skipped = overlay(table, tables, known)
            result.not_taken += skipped
        elif name in TABLES and isinstance(table, dict):
            _take(table, name, known, result.content.setdefault(name, {}), result)
        else:
            result.not_taken.append((name, f"unknown table; known are {', '.join((*TABLES, *FOREIGN))}"))
    return result


def _take(table: dict[str, Any], prefix: str, known: set[str], into: dict[str, Any], result: Converted) -> None:
    for key, value in table.items():
        full = f"{prefix}.{key}"
        if isinstance(value, dict):
            below: dict[str, Any] = {}
            _take(value, full, known, below, result)
            if below:
                into[key] = below
        elif full in known:
            into[key] = value
        else:
            close = nearest(full, known)
            result.not_taken.append((full, "unknown key" + (f"; the nearest is {close[0]}" if close else "")))


def convert(folder: Path) -> list[Converted]:
    """Convert every stage file below a folder, one folder a species.

    Raises:
        ConfigError: there are none, a species is unknown, or a file is not TOML.
    """
    files = sorted(folder.glob("*/*.toml"))
    if not files:
        raise ConfigError(
            f"{folder}: found no stage files; expected <species>/stage1_….toml, stage2_….toml and stage3_….toml in it"
        )
    converted = []
    for path in files:
        match = _STAGE_FILE.fullmatch(path.name)
        if match is None:
            raise ConfigError(f"{path}: expected a name such as stage1_balance.toml, with the number of the stage")
        species = species_config(path.parent.name)
        if species is None:
            raise ConfigError(f"{path.parent}: {unknown_option('species', path.parent.name, options('species'))}")
        converted.append(convert_file(path, species, STAGES[int(match[1]) - 1]))
    return converted


def write(path: Path, content: dict[str, Any], source: str) -> None:
    """Write a file of a recipe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"# @package _global_\n# Made from {source} by dinorl convert; units and meanings are in conf/base.\n"
    path.write_text(header + OmegaConf.to_yaml(OmegaConf.create(content)), encoding="utf-8")


def write_recipe(converted: Sequence[Converted], recipes: Path, name: str) -> list[str]:
    """Write a recipe's files.

    Args:
        converted: its stages.
        recipes: folder of all recipes.
        name: of the recipe.

    Returns:
        Lines that say what was converted and what was not.
    """
    group = recipes / f"{name}.yaml"
    if not group.exists():
        group.parent.mkdir(parents=True, exist_ok=True)
        text = (conf_dir() / "recipe" / "toml.yaml").read_text(encoding="utf-8")
        group.write_text(text.replace("recipe/toml/", f"recipe/{name}/"), encoding="utf-8")
    lines = []
    for one in converted:
        taken = sum(len(table) for table_name, table in one.content.items() if table_name not in FOREIGN)
        source = f"{one.source.parent.name}/{one.source.name}"
        stage = recipes / name / one.species / one.stage
        write(path := stage.with_suffix(".yaml"), one.content, source)
        lines.append(f"{path}: {taken} keys from {one.source}")
        if one.gpu:
            write(path := stage / "gpu.yaml", one.gpu, f"[jax] of {source}, for experiment=gpu,")
            lines.append(f"{path}: its [jax] table, for experiment=gpu")
        lines += [f"    not taken: {key}: {reason}" for key, reason in one.not_taken]
    return lines
