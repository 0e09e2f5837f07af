"""Overrides as typed, parsed by Hydra: stage, key and swept values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import OmegaConf

from dinorl.config.algorithms import left_out
from dinorl.config.errors import ConfigError, unknown_option
from dinorl.config.explain import SCOPES, explain_key
from dinorl.config.schema import STAGES, Config
from dinorl.config.together import missing_need
from dinorl.config.tree import base_values

# Nodes of the command, not of stages.
SWEEPER_KEYS = ("sweep", "search")
# One value a command.
COMMAND_KEYS = ("plan_only", "resume", "tracking.uri", "tracking.experiment", "tracking.required", "tracking.bundles")
# Set by the sweeper.
GIVEN_KEYS = tuple(f"tracking.{key}" for key in ("sweep", "lineage", "lineages", "parent", "job", "start"))
# Set by choosing a config group.
CHOSEN_WHOLE = ("species.name", "stage.name", "stage.index", "algo.name")


@dataclass(frozen=True)
class Interval:
    """An interval that a search draws from, ends included."""

    low: float
    high: float
    log: bool  # drawn uniformly in its logarithm
    whole: bool  # whole numbers


@dataclass(frozen=True)
class Setting:
    """One override with its values, several if swept."""

    scope: str | None  # its stage; None: all
    key: str  # with Hydra's + or ~, without the scope
    values: tuple[str | None, ...]  # None: no value (~key); of an interval, its ends
    typed: str  # the key as typed
    interval: Interval | None = None

    @property
    def swept(self) -> bool:
        """Whether it has several values."""
        return len(self.values) > 1

    @property
    def name(self) -> str:
        """The key without Hydra's + or ~."""
        return self.key.lstrip("+~")

    def override(self, value: str | None) -> str:
        """Return the override that sets one of the values."""
        return self.key if value is None else f"{self.key}={value}"


def read_settings(
    overrides: Iterable[Override], strict: bool = True, search: bool = False
) -> tuple[list[Setting], list[str]]:
    """Split overrides into settings and the stages to run, in order.

    Args:
        overrides: from Hydra's parser.
        strict: refuse settings of stages that do not run.
        search: accept intervals and ``search.*``.

    Raises:
        ConfigError: a stage does not exist or does not run, or a key cannot be set.
    """
    settings: list[Setting] = []
    stages = list(STAGES)
    for override in overrides:
        head, _, rest = override.key_or_group.partition(".")
        typed = override.get_key_element()
        interval = _interval(override) if search and override.is_interval_sweep() else None
        values = _ends(interval) if interval else _values(override)
        if override.key_or_group == "stage":
            for value in values:
                if value not in STAGES:
                    raise unknown_option("stage", str(value), STAGES)
            stages = [stage for stage in STAGES if stage in values]
        elif head in SWEEPER_KEYS:
            if len(values) > 1:
                raise _once(str(override.input_line), f"{typed}={values[0]}")
            if head == "search" and not search:
                raise ConfigError("only a search uses it", key=typed, hint="Type hydra/sweeper=search, or remove it")
        elif rest and head in SCOPES:
            _set(settings, Setting(SCOPES[head], typed.replace(f"{head}.", "", 1), values, typed, interval))
        elif head.isdigit():
            raise explain_key(override.key_or_group, [])
        else:
            _set(settings, Setting(None, typed, values, typed, interval))
    for setting in settings:
        if setting.name in CHOSEN_WHOLE:
            group = setting.name.partition(".")[0]
            raise ConfigError(f"only the choice of a {group} sets it", key=setting.typed, hint=f"Type {group}=…")
        if setting.name in GIVEN_KEYS:
            raise ConfigError("is given to each job by the sweeper", key=setting.typed, hint="Remove it")
        if setting.name in COMMAND_KEYS and (setting.scope is not None or len(setting.values) > 1):
            raise _once(setting.typed, f"{setting.name}={setting.values[0]}")
        if setting.scope is not None and setting.name == "warm_start" and setting.scope != stages[0]:
            raise ConfigError(
                f"stage {setting.scope} starts from the stage before it",
                key=setting.typed,
                hint=f"Type warm_start=… for the first stage, or stage={setting.scope} to run it alone",
            )
        if strict and setting.scope is not None and setting.scope not in stages:
            both = ",".join(s for s in STAGES if s in (*stages, setting.scope))
            raise ConfigError(
                f"stage {setting.scope} is not run by this command (stage={','.join(stages)})",
                key=setting.typed,
                hint=f"Remove it, or type stage={both}",
            )
    return settings, stages


def _once(typed: str, instead: str) -> ConfigError:
    return ConfigError("has one value for the whole command", key=typed, hint=f"Type {instead}")


def _set(settings: list[Setting], setting: Setting) -> None:
    """Add a setting; the last one of a key wins, as in Hydra."""
    settings[:] = [s for s in settings if (s.scope, s.key) != (setting.scope, setting.key)]
    settings.append(setting)


def _values(override: Override) -> tuple[str | None, ...]:
    if override.is_delete():
        return (None,)
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            raise ConfigError(
                "expected values that can be counted, found an interval",
                key=str(override.input_line),
                hint=f"Type {override.get_key_element()}=0.1,0.2,0.5 or range(start,stop,step), or search the interval "
                "with hydra/sweeper=search",
            )
        values = tuple(override.sweep_string_iterator())
        if not values:
            raise ConfigError("expected at least one value, found none", key=str(override.input_line))
        return values
    return (override.get_value_element_as_str(),)


def _interval(override: Override) -> Interval:
    """Return the interval of an override.

    Raises:
        ConfigError: its tags or ends are impossible.
    """
    sweep, typed, line = override.value(), override.get_key_element(), str(override.input_line)
    assert isinstance(sweep, IntervalSweep) and sweep.start is not None and sweep.end is not None
    if unknown := sweep.tags - {"log", "int"}:
        raise ConfigError(
            f"there is no tag {', '.join(sorted(unknown))}", key=line, expected="log, int or both",
            hint=f"Type '{typed}=tag(log,interval(1e-4,1e-2))'",
        )  # fmt: skip
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    whole = "int" in sweep.tags or isinstance(low, int) and isinstance(high, int)
    if not low < high:
        raise ConfigError("the interval is empty", key=line, hint=f"Type '{typed}=interval({high:g},{low:g})'")
    if log and low <= 0.0:
        raise ConfigError("has no logarithm at 0 and below", key=line, hint="Give a start above 0, or no tag log")
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise ConfigError("expected whole ends for whole numbers", key=line)
    return Interval(low, high, log, whole)


def _ends(interval: Interval) -> tuple[str, str]:
    return number_text(interval.low, interval.whole), number_text(interval.high, interval.whole)


def number_text(value: float, whole: bool) -> str:
    """Return a number as typed; four digits are enough to repeat a trial by hand."""
    return str(int(value)) if whole else repr(float(f"{value:.4g}"))


def stage_overrides(settings: Sequence[Setting], chosen: dict[int, str | None], stage: str) -> list[str]:
    """Return one stage's overrides: plain ones, then its own, which win in any order.

    In a sweep over algorithms, options of one are not for the lineages of another.
    """
    own = {s.name for s in settings if s.scope == stage}
    plain = [s for s in settings if s.scope is None and s.name not in own]
    scoped = [s for s in settings if s.scope == stage]
    values = {s: chosen.get(id(s), s.values[0]) for s in (*plain, *scoped)}
    algorithm = next((value for s, value in values.items() if s.name == "algo"), None)
    others = left_out(algorithm) if algorithm else set()
    return [f"stage={stage}"] + [
        s.override(value) for s, value in values.items() if s.name.partition(".")[0] not in others
    ]


def _is_off(value: str | None, off: float | None) -> bool:
    return value in ("null", None) or (off is not None and yaml.safe_load(value) == off)


def check_needed(setting: Setting, configs: Iterable[Config]) -> None:
    """Check that a key has an effect in a config that sets it.

    Raises:
        ConfigError: its need is missing in all of them.
    """
    needs = [missing_need(setting.name, config) for config in configs]
    missing = next((need for need in needs if need is not None), None)
    if missing is None or None in needs:
        return
    off = OmegaConf.select(base_values(), setting.name)
    if all(_is_off(value, off) for value in setting.values):
        return  # off already
    raise ConfigError(
        f"means nothing here, {missing.otherwise}", key=setting.typed, hint=f"{missing.hint}, or remove it"
    )


def hydra_value(text: str) -> str:
    """Quote a string for Hydra's grammar."""
    # only backslashes before quotes escape
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def one_stage(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of the stage that ``--cfg`` shows, without stage scopes."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    settings, stages = read_settings(parsed, strict=False, search=True)
    return stage_overrides(settings, {}, stages[0])
