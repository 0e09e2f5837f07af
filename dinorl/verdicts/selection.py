"""Which stage runs are meant: ``species=trex stage=bite seed=0,1``, a sweep's name, a folder or an MLflow run id."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from dinorl.config import ConfigError
from dinorl.config.schema import STAGES
from dinorl.files.run_folder import SweepFiles

RUN_ID, EVENT = "run_id", "species.event.name"
TAGS = ("species", "stage", "algo", "seed", "lineage", "sweep", "git_sha", "status", "gate")  # other keys: parameters
DONE = "DONE"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Selection:
    """Conditions on stage runs; a run must meet all.

    Attributes:
        text: as typed.
        values: accepted values by key: a tag, a parameter or :data:`RUN_ID`.
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
        for word in shlex.split(text):
            values |= _assigned(word) if "=" in word else _named(word)
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

    def filter(self) -> str:
        """Return the part of it that MLflow's ``filter_string`` can express."""
        parts = [
            f"tags.{key} = '{values[0]}'"
            for key, values in self.values.items()
            if key in TAGS and len(values) == 1 and "'" not in values[0]
        ]
        return " and ".join(parts)

    def accepts(self, tags: Mapping[str, str], params: Mapping[str, str], run_id: str) -> bool:
        """Whether a run meets every condition."""
        known = {**params, **tags, RUN_ID: run_id}
        return all(
            key in known and any(same(known[key], value) for value in values) for key, values in self.values.items()
        )


def same(one: str, other: str) -> bool:
    """Whether two values mean the same: ``1e-4`` and ``0.0001``, ``null`` and ``None``, ``true`` and ``True``."""
    try:
        return float(one) == float(other)
    except ValueError:
        return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    lower = text.replace(" ", "").replace("'", "").lower()
    return "none" if lower == "null" else lower


def _assigned(word: str) -> dict[str, tuple[str, ...]]:
    try:
        override = OverridesParser.create().parse_override(word)
    except OverrideParseException as error:
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
    return {"sweep": (word,)}
