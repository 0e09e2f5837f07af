"""The playbook's types, and its checks. Its content is ``conf/playbook.yaml``, which explains every key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic.dataclasses import dataclass

from dinorl.config import ALGORITHMS, ConfigError, conf_dir
from dinorl.config.check import checked
from dinorl.config.errors import UnknownKey, nearest, unknown_key
from dinorl.config.kinds import NODE, Number, Word
from dinorl.config.schema import StageName
from dinorl.config.strict import known_keys
from dinorl.tasks.events import ROLES
from dinorl.tasks.parameters import env_parameters
from dinorl.verdicts.measures import MEASURES

PLAYBOOK = "playbook.yaml"
ALGO = "{algo}"  # in a key: the run's algorithm
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twenty times as fast


@dataclass(config=NODE)
class Comparison:
    """A measure compared with a bound."""

    measure: Word
    above: Number | None = None
    below: Number | None = None
    of: Literal["kept", "last", "first", "highest", "lowest"] = "kept"  # which evaluation

    def holds(self, number: float) -> bool:
        """Whether the bound is crossed."""
        return number > self.above if self.above is not None else self.below is not None and number < self.below


@dataclass(config=NODE)
class Change:
    """How an override's value is made: ``set``, or its own value × ``times``, within ``at_least`` and ``at_most``."""

    set: Number | Word | None = None
    times: Number | list[Number] | None = None  # a list: an interval's two ends
    of: Word | None = None  # key whose value is multiplied, instead of its own
    at_least: Number | None = None
    at_most: Number | None = None


@dataclass(config=NODE)
class Remedy:
    """Overrides that belong together."""

    change: dict[Word, Change]
    published: Word | None = None  # the value of others
    ours: Word | None = None  # of our recipes, measured
    stages: list[StageName] | None = None  # only there
    algo: Word | None = None  # only with it
    needs: Word | None = None  # key that must be neither 0 nor null


@dataclass(config=NODE)
class Symptom:
    """How bad training shows, why, and what to change."""

    title: Word
    stages: list[StageName]
    cause: Word
    remedies: list[Remedy]
    when: list[Comparison] = field(default_factory=list)  # all hold
    one_of: list[Comparison] = field(default_factory=list)  # and at least one of these
    algo: Word | None = None
    published: Word | None = None  # how it shows elsewhere
    ours: Word | None = None  # the same numbers of our animals, measured

    @property
    def compares_seeds(self) -> bool:
        """Whether it needs several seeds."""
        return any(MEASURES[one.measure].of_seeds for one in (*self.when, *self.one_of))


Playbook = Mapping[str, Symptom]  # by name


def load(path: Path | None = None) -> Playbook:
    """Return the checked playbook.

    Args:
        path: default ``conf/playbook.yaml``.

    Raises:
        ConfigError: it cannot be read, or a key, measure, bound or override is unknown or impossible.
    """
    path = path or conf_dir() / PLAYBOOK
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected symptoms by name, found {type(content).__name__}")
    return {str(name): _symptom(node, f"{path.name}: {name}") for name, node in content.items()}


def _symptom(node: Any, where: str) -> Symptom:
    for kind, part, nested in _nodes(node):  # for messages that name the place
        _read(kind, nested, f"{where}.{part}")
    symptom: Symptom = _read(Symptom, node, where)
    if not symptom.when and not symptom.one_of:
        raise ConfigError("expected a comparison, found none", key=f"{where}.when")
    for one in (*symptom.when, *symptom.one_of):
        _check_comparison(one, where)
    seeds = [MEASURES[one.measure].of_seeds is not None for one in (*symptom.when, *symptom.one_of)]
    if any(seeds) and not all(seeds):
        raise ConfigError("a measure of seeds stands alone", key=f"{where}.when")
    if symptom.algo is not None and symptom.algo not in ALGORITHMS:
        raise ConfigError(key=f"{where}.algo", found=symptom.algo, expected=f"one of {', '.join(ALGORITHMS)}")
    for remedy in symptom.remedies:
        for key, change in remedy.change.items():
            _check_change(key, change, f"{where}.remedies")
        if remedy.needs is not None:
            _check_key(remedy.needs, f"{where}.needs")
    return symptom


def _nodes(symptom: Any) -> Iterator[tuple[type, str, Any]]:
    """Yield a symptom's comparisons and changes: type, place, node."""
    if not isinstance(symptom, dict):
        return
    for part in ("when", "one_of"):
        yield from ((Comparison, part, one) for one in symptom.get(part) or ())
    for remedy in symptom.get("remedies") or ():
        changes = remedy.get("change") if isinstance(remedy, dict) else None
        if isinstance(changes, dict):
            yield from ((Change, f"remedies.{key}", change) for key, change in changes.items())


def _read(kind: type[Any], node: Any, where: str) -> Any:
    try:
        return checked(kind, node, f"{where}.")
    except UnknownKey as error:
        allowed = ", ".join(one.name for one in dataclasses.fields(kind))
        raise ConfigError(error.problem, key=error.key, expected=f"one of {allowed}") from None


def _check_comparison(one: Comparison, where: str) -> None:
    if one.measure not in MEASURES:
        close = nearest(one.measure, MEASURES)
        raise ConfigError(
            "there is no such measure" + (f"; the nearest is {close[0]}" if close else ""),
            key=f"{where}.measure", found=one.measure, hint="docs/playbook.md lists all",
        )  # fmt: skip
    if (one.above is None) == (one.below is None):
        raise ConfigError("expected either above or below", key=f"{where}.{one.measure}")


def _check_change(key: str, change: Change, where: str) -> None:
    _check_key(key, where)
    if change.of is not None:
        _check_key(change.of, f"{where}.{key}.of")
    if change == Change():
        raise ConfigError("expected set, times, of, at_least or at_most, found none", key=f"{where}.{key}")
    if isinstance(change.times, list) and (key not in _intervals() or len(change.times) != 2):
        raise ConfigError("expected one factor; only an interval has two", key=f"{where}.{key}.times")
    if change.set is not None and dataclasses.replace(change, set=None) != Change():
        raise ConfigError("set stands alone", key=f"{where}.{key}")


def _check_key(key: str, where: str) -> None:
    """Check that a key of the config exists, for some animal and algorithm."""
    if key not in _possible_keys():
        raise ConfigError(unknown_key(key, _possible_keys()).problem, key=f"{where}: {key}")


@lru_cache
def _possible_keys() -> frozenset[str]:
    found = {f"env.{{{role}}}" for role in ROLES}
    for algo in ALGORITHMS:
        keys = known_keys(algorithm=algo)
        found |= {*keys, *(f"{ALGO}{key.removeprefix(algo)}" for key in keys if key.startswith(f"{algo}."))}
    return frozenset(found)


def _intervals() -> set[str]:
    shared = {f"env.{one.name}" for one in env_parameters() if one.kind == list[float]}
    return shared | {f"env.{{{role}}}" for role, one in ROLES.items() if one.kind == list[float]}
