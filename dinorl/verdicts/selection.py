"""Which stage runs are meant: ``species=trex stage=bite seed=0,1``, a sweep's name, a folder or an MLflow run id."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from dinorl.config import ConfigError
from dinorl.config.schema import STAGES
from dinorl.files.run_folder import SweepFiles
from dinorl.tracking.describe import GROUPS

RUN_ID, COMMIT, EVENT = "run_id", "git_sha", "species.event.name"
TAGS = ("species", "stage", "algo", "seed", "lineage", "sweep", COMMIT, "status", "gate", *GROUPS)  # others: parameters
DONE = "DONE"
_ID = re.compile(r"[0-9a-f]{32}")
_FILTERS = 32  # queries of a selection
_WORDS = {"null": "None", "none": "None", "true": "True", "false": "False"}  # as MLflow has them


@dataclass(frozen=True)
class Selection:
    """Conditions on stage runs; a run must meet all.

    Attributes:
        text: as typed.
        values: accepted values by key: a tag, a parameter or :data:`RUN_ID`; of a commit its beginning.
    """

    text: str
    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, text: str, status: tuple[str, ...] = (DONE,)) -> Selection:
        """Read a selection in Hydra's grammar.

        Args:
            text: as typed.
            status: of the runs that are meant if the text does not say; empty: any.

        Raises:
            ConfigError: it cannot be read.
        """
        values: dict[str, tuple[str, ...]] = {}
        for word in words(text):
            for key, accepted in (_assigned(word) if "=" in word else _named(word)).items():
                if key in values:
                    raise ConfigError(f"{text}: {key} is there twice", hint=f"Type {key}=A,B for either")
                values[key] = accepted
        if not values:
            raise ConfigError(
                f"{text!r}: selects nothing in particular. Type e.g. 'species=trex stage=bite', or a sweep's name"
            )
        stages = values.get("stage", ())
        if events := tuple(stage for stage in stages if stage not in STAGES):
            if len(events) < len(stages):
                raise ConfigError(f"stage={','.join(stages)}: select stages and events apart")
            values |= {"stage": (STAGES[-1],), EVENT: events}
        return cls(text, ({"status": status} if status else {}) | values)

    def filters(self) -> list[str]:
        """Return MLflow's ``filter_string`` of each query that the runs are read with.

        They may find more than :meth:`accepts` does, for MLflow has no OR and compares parameters as text.
        """
        choices = [["tags.stage LIKE '%'"]]  # parents have none
        count = 1
        for key, values in self.values.items():
            found = _conditions(key, values)
            if found and count * len(found) <= _FILTERS:
                choices.append(found)
                count *= len(found)
        return [" and ".join(chosen) for chosen in itertools.product(*choices)]

    def accepts(self, tags: Mapping[str, str], params: Mapping[str, str], run_id: str) -> bool:
        """Whether a run meets every condition."""
        known = {**params, **tags, RUN_ID: run_id}
        return all(
            key in known and any(_means(key, known[key], value) for value in values)
            for key, values in self.values.items()
        )


def words(text: str) -> list[str]:
    """Return a selection's words.

    Raises:
        ConfigError: a quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{text}: a quote is not closed") from error


def same(one: str, other: str) -> bool:
    """Whether two values mean the same: ``1e-4`` and ``0.0001``, ``null`` and ``None``, ``true`` and ``True``."""
    try:
        return float(one) == float(other)
    except ValueError:
        return _plain(one) == _plain(other)


def _means(key: str, found: str, value: str) -> bool:
    return found.startswith(value) if key == COMMIT else same(found, value)


def _plain(text: str) -> str:
    plain = text.replace(" ", "").replace("'", "")
    return _WORDS.get(plain.lower(), plain)


def _conditions(key: str, values: Sequence[str]) -> list[str]:
    """Return conditions of which a run meets one if it has one of the values; empty: MLflow cannot tell."""
    if any(set(value) & set("'[{") for value in values):  # lists are spelled in many ways
        return []
    if key == RUN_ID:
        return [f"attributes.run_id IN ({', '.join(repr(value) for value in values)})"]
    if key == COMMIT:
        return [f"tags.{key} LIKE '{value}%'" for value in values]
    if key in TAGS:
        return [f"tags.{key} = '{value}'" for value in values]
    spelled = dict.fromkeys(spelling for value in values for spelling in _spellings(value))
    return [f"params.`{key}` = '{spelling}'" for spelling in spelled]


def _spellings(value: str) -> list[str]:
    """Return how MLflow may have a parameter's value."""
    try:
        number = float(value)
    except ValueError:
        return [_WORDS.get(value.lower(), value)]
    return [str(number), *([str(int(number))] if number.is_integer() else [])]


def _assigned(word: str) -> dict[str, tuple[str, ...]]:
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError(f"{word}: expected key=value[,value…], found something else") from error
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            raise ConfigError(f"{word}: expected values that can be counted, found an interval")
        return {override.key_or_group: tuple(override.sweep_string_iterator())}
    return {override.key_or_group: (str(override.get_value_element_as_str()),)}


def _named(word: str) -> dict[str, tuple[str, ...]]:
    """Return the condition of a word without ``=``."""
    if _ID.fullmatch(word):
        return {RUN_ID: (word,)}
    if SweepFiles(Path(word)).plan.exists():  # a sweep's folder
        return {"sweep": (Path(word).absolute().name,)}
    if "/" in word:
        raise ConfigError(f"{word}: expected a sweep's folder or name, key=value or an MLflow run id")
    return {"sweep": tuple(word.split(","))}
