"""What a regression trains: one curriculum for each animal and algorithm, on a few seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from dinorl.config import Config, ConfigError, compose
from dinorl.config.explain import check_options, explain
from dinorl.config.overrides import hydra_value, read_settings
from dinorl.sweep.plan import make_plan

SWEPT = ("species", "algo", "seed")


@dataclass(frozen=True)
class Rerun:
    """The curricula of a regression.

    Attributes:
        sweep: its name, the same for the same configs, so that a second command resumes it.
        named: the override that sets it, if it was not typed.
        curricula: configs of each animal and algorithm, one a stage, with the first seed.
        only: the plan is only shown.
    """

    sweep: str
    named: tuple[str, ...]
    curricula: tuple[tuple[Config, ...], ...]
    only: bool


def plan_rerun(overrides: Sequence[str], config_dir: Path | None = None) -> Rerun:
    """Compose the curricula that overrides train.

    Raises:
        ConfigError: an override is invalid, or sweeps what is to be compared.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise explain(error, overrides) from error
    own = [override for override in parsed if not override.key_or_group.startswith("hydra")]
    paths = [f"hydra.searchpath=[{hydra_value(str(config_dir.absolute()))}]"] if config_dir else []
    paths += [line for line in overrides if line.startswith("hydra.searchpath=")]
    if any(override.key_or_group == "hydra.sweep.dir" for override in parsed):
        raise ConfigError("a regression is known by its name", key="hydra.sweep.dir", hint="Type sweep.name=…")
    settings, stages = read_settings(own)
    for setting in settings:
        if setting.swept and (setting.scope is not None or setting.name not in SWEPT):
            raise ConfigError(
                "a regression compares one recipe", key=setting.typed, hint=f"Type {setting.typed}={setting.values[0]}"
            )

    def composed(typed: list[str]) -> Config:
        check_options(typed)
        return compose([*paths, *typed])

    one_seed = [replace(s, values=s.values[:1]) if s.name == "seed" else s for s in settings]
    plan = make_plan(one_seed, stages, composed)
    typed = next((str(override.value()) for override in own if override.key_or_group == "sweep.name"), None)
    name = typed
    if name is None:
        digest = hashlib.sha256("".join(sorted(job.key for job in plan.jobs)).encode()).hexdigest()[:8]
        first = plan.jobs[0].config
        name = f"regress-{first.species.name}-{first.algo.name}-{digest}"
    only = any(setting.name == "plan_only" and setting.values[0] == "true" for setting in settings)
    curricula = tuple(tuple(job.config for job in lineage.jobs) for lineage in plan.lineages)
    return Rerun(name, () if typed else (f"sweep.name={name}",), curricula, only)
