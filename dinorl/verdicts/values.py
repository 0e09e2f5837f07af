"""The values that a run was trained with, as MLflow has them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import yaml
from omegaconf import OmegaConf

from dinorl.config import Config, ConfigError, base_values, flatten
from dinorl.config.identity import affects_training
from dinorl.files.run_folder import RunFolder
from dinorl.verdicts.recipe_text import text_of
from dinorl.verdicts.records import StageRun

RECIPE = ("env", "curriculum")  # nodes of a recipe, beside the algorithm's
_SETUP = ("sim", "eval")  # what must be equal besides

Values = dict[str, Any]  # {"ppo.gamma": 0.99}
Changes = dict[str, tuple[Any, Any]]  # old and new value by key


def trained_values(run: StageRun) -> Values:
    """Return the values of a run's recipe, simulation and evaluations that affect training.

    What it lacks of the last two has its default: MLflow has no keys that came later.
    """
    recorded = {key: parsed(value) for key, value in run.params.items() if _counts(key, run.tags["algo"])}
    return {**_setup_defaults(), **recorded}


def values_of(config: Config) -> Values:
    """Return the same of a composed config."""
    return {key: value for key, value in flatten(config).items() if _counts(key, config.algo.name)}


def parsed(text: str) -> Any:
    """Return the value of an MLflow parameter, which is its ``str``."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def in_recipe(key: str, algo: str) -> bool:
    """Whether a key belongs in a recipe."""
    return key.partition(".")[0] in (*RECIPE, algo)


def differences(one: Values, other: Values) -> Changes:
    """Return the values that differ, of keys that both have."""
    return {key: (value, other[key]) for key, value in one.items() if key in other and other[key] != value}


def check_equal(runs: Sequence[StageRun]) -> None:
    """Check that runs of a stage differ only in their seeds.

    Raises:
        ConfigError: they do not.
    """
    first = trained_values(runs[0])
    for run in runs[1:]:
        for key, both in differences(first, trained_values(run)).items():
            raise ConfigError(
                f"{runs[0].name} and {run.name} differ in {key}: {' and '.join(map(text_of, both))}",
                hint=f"Select one value: {key}={text_of(both[0])}",
            )


def newest_by_seed(runs: Iterable[StageRun]) -> list[StageRun]:
    """Return one run of each seed, the first: two of a seed are no independent ones."""
    found: dict[int, StageRun] = {}
    for run in runs:
        found.setdefault(run.seed, run)
    return [found[seed] for seed in sorted(found)]


def typed_overrides(run: StageRun) -> list[str] | None:
    """Return the overrides that composed a run, if its folder is here."""
    try:
        found = yaml.safe_load((RunFolder(run.folder).hydra / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return [str(override) for override in found] if isinstance(found, list) else None


def typed(overrides: Iterable[str] | None) -> Mapping[str, str]:
    """Return overrides by key, without Hydra's ``+``."""
    pairs = (override.lstrip("+").partition("=") for override in overrides or ())
    return {key: value for key, _, value in pairs}


@lru_cache
def _setup_defaults() -> Values:
    base = OmegaConf.to_container(base_values())
    assert isinstance(base, dict)
    keys = ((f"{node}.{key}", value) for node in _SETUP for key, value in base[node].items())
    return {key: value for key, value in keys if affects_training(key)}


def _counts(key: str, algo: str) -> bool:
    return key.partition(".")[0] in (*RECIPE, algo, *_SETUP) and affects_training(key)
