"""The memory of a search: its trials, and every report with its decision, in order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dinorl.config import ConfigError
from dinorl.files.run_folder import SearchFiles, as_json, write_json
from dinorl.search.space import Values

# Decisions on a report.
CONTINUE, PRUNE, END = "continue", "prune", "end"
# Options that may change when a search is resumed.
FREE = ("samples", "jobs")


@dataclass(frozen=True)
class Report:
    """One report of a trial, or its failure."""

    trial: int
    steps: int  # environment steps per seed, over the trial's stages
    scores: tuple[float, ...] = ()  # of its seeds
    score: float = 0.0  # over them
    trained: int = 0  # environment steps of all seeds so far
    passed: bool = False  # every seed has passed the gate of the last stage
    finished: bool = False  # the trial is over by itself
    failed: str = ""  # error


@dataclass(frozen=True)
class Entry:
    """A report and what was decided on it."""

    report: Report
    decision: str


class Journal:
    """The file of a search's reports.

    A report is written before its decision has an effect, so a search that is killed at any moment knows them all.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: Path) -> None:
        self.path = SearchFiles(folder).journal
        self.entries: list[Entry] = list(self._read())

    def append(self, entry: Entry) -> None:
        """Write an entry, durably."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(as_json(asdict(entry.report) | {"decision": entry.decision}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(entry)

    def _read(self) -> Iterator[Entry]:
        """Yield the entries; cut off a line that was being written."""
        if not self.path.exists():
            return
        whole, names = 0, {field.name for field in fields(Report)}
        with self.path.open("rb") as file:
            for line in file:
                try:
                    content = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    content = None
                if content is None:
                    break
                whole += len(line)
                known = {key: value for key, value in content.items() if key in names}
                yield Entry(Report(**known | {"scores": tuple(content["scores"])}), content["decision"])
        os.truncate(self.path, whole)


class Memory:
    """What a search must have in common with its earlier command: options, keys and trials.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: Path) -> None:
        self.path = SearchFiles(folder).search

    def read(self) -> dict[str, Any] | None:
        """Return the content of the file, or None.

        Raises:
            ConfigError: it cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return {key: content[key] for key in ("options", "space", "trials")}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self.path}: cannot be read ({error}). Type another sweep.name") from error

    def write(self, options: dict[str, Any], space: dict[str, str], trials: list[Values]) -> None:
        """Write the file."""
        write_json(self.path, {"options": options, "space": space, "trials": trials})

    def check(self, options: dict[str, Any], space: dict[str, str], trials: list[Values] | None) -> None:
        """Check that an earlier search in this folder is the same; it may have fewer trials.

        Args:
            options: ``search.*``.
            space: values of each key, for people.
            trials: drawn; None: not known beforehand.

        Raises:
            ConfigError: it differs.
        """
        before = self.read()
        if before is None:
            return
        changed = [
            f"search.{key} was {before['options'].get(key)}, is {value}"
            for key, value in options.items()
            if key not in FREE and before["options"].get(key) != value
        ]
        old = before["space"]
        changed += [f"{key} was {old.get(key, 'fixed')}, is {now}" for key, now in space.items() if old.get(key) != now]
        changed += [f"{key} is not searched any more" for key in old if key not in space]
        if not changed and trials is not None and before["trials"] != trials[: len(before["trials"])]:
            changed = [f"there were {len(before['trials'])} trials, now fewer or others"]
        if changed:
            raise ConfigError(
                f"{self.path.parent}: holds another search: {'; '.join(changed[:3])}. Type another sweep.name"
            )
