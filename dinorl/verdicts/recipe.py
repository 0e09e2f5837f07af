"""The files of a recipe: which of them a value belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dinorl.config import ALGORITHMS, Config, ConfigError, compose, conf_dir
from dinorl.config.compose import merged_files
from dinorl.config.overrides import hydra_value
from dinorl.verdicts.recipe_text import holds, read

DEFAULT = "default"
_GLOBAL = "_global_"


@dataclass(frozen=True)
class Recipe:
    """One stage of one animal in a recipe.

    Attributes:
        name: of the recipe, such as ``default``.
        species, stage, algo: as in the config.
        searchpath: folders of configs beside dinorl's own.
    """

    name: str
    species: str
    stage: str
    algo: str
    searchpath: tuple[Path, ...] = ()

    @property
    def overrides(self) -> list[str]:
        """What composes it."""
        path = [f"hydra.searchpath=[{','.join(hydra_value(str(folder)) for folder in self.searchpath)}]"]
        chosen = {"recipe": self.name, "species": self.species, "stage": self.stage, "algo": self.algo}
        return [*(path if self.searchpath else []), *(f"{group}={option}" for group, option in chosen.items())]

    def compose(self) -> Config:
        """Compose it.

        Raises:
            ConfigError: it cannot be composed, or is invalid.
        """
        return compose(self.overrides)

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files that its composition merges at the top, in order, by their paths in the tree."""
        found = {}
        for name, package in merged_files(self.overrides):
            path = self._find(f"{name}.yaml")
            if package in ("", _GLOBAL) and path is not None:
                found[name] = path
        return found

    def file_of(self, key: str) -> Path:
        """Return the file of the animal that a value of a key belongs to; it need not exist.

        It is the most specific one that holds the key. If none does, it is the stage's, or the algorithm's if the key
        is an option of it, or if a file of the algorithm for all animals would win over the stage's.

        Raises:
            ConfigError: a file that is read later holds the key.
        """
        names = list(self.files)
        holding = [name for name, content in self._contents.items() if holds(content, key)]
        if holding and holding[-1] in (self._stage, self._algorithm):
            return self.files[holding[-1]]
        last = names.index(holding[-1]) if holding else -1
        stage_wins = last < names.index(self._stage)
        if stage_wins and key.partition(".")[0] not in ALGORITHMS:
            return self.files[self._stage]
        if self._reads_algorithm:
            specific = self.files.get(self._algorithm)
            if specific is not None and last < names.index(self._algorithm):
                return specific
            if specific is None and (stage_wins or holding[-1].startswith("recipe/")):
                return self.files[self._stage].with_suffix("") / f"{self.algo}.yaml"
        if stage_wins:
            return self.files[self._stage]
        raise ConfigError(
            f"{self.files[holding[-1]]}, which is read after the recipe of {self.species}, holds it too, and would win",
            key=key,
            hint="Remove it there",
        )

    def others(self, key: str, path: Path) -> list[str]:
        """Return the other algorithms that a value in a file reaches too."""
        if key.partition(".")[0] in ALGORITHMS:
            return []
        reached = []
        for other in self._siblings:
            with contextlib.suppress(ConfigError):  # the animal has no recipe for it
                if path in other.files.values() and other.file_of(key) == path:
                    reached.append(other.algo)
        return reached

    @cached_property
    def _siblings(self) -> list[Recipe]:
        return [replace(self, algo=algo) for algo in ALGORITHMS if algo != self.algo]

    @cached_property
    def _contents(self) -> dict[str, dict[str, Any]]:
        return {name: read(path) for name, path in self.files.items()}

    @property
    def _stage(self) -> str:
        return f"recipe/{self.name}/{self.species}/{self.stage}"

    @property
    def _algorithm(self) -> str:
        return f"{self._stage}/{self.algo}"

    @property
    def _reads_algorithm(self) -> bool:
        """Whether the stage's file has the algorithm's own in its defaults list."""
        if self._algorithm in self.files:
            return True
        defaults = self._contents[self._stage].get("defaults", ())
        listed = [one for one in defaults if isinstance(one, Mapping)]
        groups = {str(group).removeprefix("optional ").partition("@")[0] for one in listed for group in one}
        return bool(groups & {self.stage, f"/{self._stage}"})

    def _find(self, name: str) -> Path | None:
        paths = (folder / name for folder in (conf_dir(), *self.searchpath))
        return next((path for path in paths if path.is_file()), None)
