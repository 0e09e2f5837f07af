"""The memory of a search: its trials, every report with its decision, and every exchange, in order."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dinorl.config import ConfigError
from dinorl.files.run_folder import SearchFiles, as_json, write_json
from dinorl.search.space import Values

# Decisions on a report; a paused trial of a population continues, too.
CONTINUE, PRUNE, END, PAUSE = "continue", "prune", "end", "pause"
# Options that may change when a search is resumed; a population keeps its size.
FREE = ("samples", "jobs")
FREE_OF_POPULATION = ("jobs",)


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


@dataclass(frozen=True)
class Takeover:
    """A member of a population resumes from another's bundle, with other values."""

    trial: int
    source: int  # whose bundle
    values: Values


@dataclass(frozen=True)
class Exchange:
    """What the members of a population take over from each other, at equal steps."""

    steps: int
    takeovers: tuple[Takeover, ...]
    after: int  # reports before it


class Journal:
    """The file of a search's reports and exchanges.

    Each is written before it has an effect, so a search that is killed at any moment knows them all.

    Args:
        folder: of the search.

    Attributes:
        entries: reports with their decisions.
        exchanges: of a population.
        complete: how many of them have an effect in the run folders.
    """

    def __init__(self, folder: Path) -> None:
        self.path = SearchFiles(folder).journal
        self.entries: list[Entry] = []
        self.exchanges: list[Exchange] = []
        self.complete = 0
        self._read()

    def append(self, entry: Entry) -> None:
        """Write an entry, durably."""
        self._write(asdict(entry.report) | {"decision": entry.decision})
        self.entries.append(entry)

    def begin_exchange(self, exchange: Exchange) -> None:
        """Write an exchange, durably, before any member takes over a bundle."""
        self._write(asdict(exchange))
        self.exchanges.append(exchange)

    def complete_exchange(self) -> None:
        """Write, durably, that the members have taken over their bundles."""
        self._write({"complete": self.complete + 1})
        self.complete += 1

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(as_json(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        """Read the file; cut off a line that was being written."""
        if not self.path.exists():
            return
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                try:
                    content = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    content = None
                if content is None:
                    break
                whole += len(line)
                if "takeovers" in content:
                    taken = tuple(Takeover(**one) for one in content["takeovers"])
                    self.exchanges.append(Exchange(content["steps"], taken, content["after"]))
                elif "complete" in content:
                    self.complete = content["complete"]
                else:
                    self.entries.append(_entry(content))
        os.truncate(self.path, whole)


def _entry(content: dict[str, Any]) -> Entry:
    names = {field.name for field in fields(Report)}
    known = {key: value for key, value in content.items() if key in names}
    return Entry(Report(**known | {"scores": tuple(content["scores"])}), content["decision"])


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
        free = FREE_OF_POPULATION if options["scheduler"] == "pbt" else FREE
        changed = [
            f"search.{key} was {before['options'][key]}, is {value}"
            for key, value in options.items()
            if key not in free and before["options"].get(key, value) != value
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
