"""One HTML page of a sweep: its runs, verdicts, curves, reward shares and films, in one file that can be mailed."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from dinorl.config.secrets import hide
from dinorl.files.run_folder import RunFolder, SweepFiles, whole_file
from dinorl.reports.films import MEGABYTE, Film, read_films
from dinorl.reports.heading import facts
from dinorl.reports.search import SearchPart, read_search
from dinorl.reports.sections import Section, make_sections
from dinorl.reports.stages import StageRecord, Unlogged, read_stages, unlogged
from dinorl.reports.tables import Cell, overview
from dinorl.tracking.store import default_uri
from dinorl.verdicts.records import read_runs
from dinorl.verdicts.selection import Selection

FILMS = 10.0  # MB of films in a page: with base64 it still fits into a mail


@dataclass(frozen=True)
class Failure:
    """A stage that failed."""

    name: str
    status: str
    error: str
    log: str
    link: str | None


@dataclass(frozen=True)
class Animal:
    """One animal's part of a page.

    Attributes:
        title: its name.
        stages: titles by index.
        lineages: cells of the overview by lineage and index.
        sections: one a stage.
    """

    title: str
    stages: dict[int, str]
    lineages: dict[str, dict[int, Cell]]
    sections: list[Section]


class Page:
    """The page of a sweep or of another selection of stage runs.

    Args:
        text: a sweep's name or folder, or a selection; see :mod:`dinorl.verdicts.selection`. Runs of every status are
            meant unless it says which.
        out: the file; default: ``report.html`` in the sweep's folder, or here if the runs are of several sweeps or
            their folder is elsewhere.
        uri: of the MLflow server; default ``MLFLOW_TRACKING_URI``, else the embedded store.

    Attributes:
        sweep: folder of the sweep, or None.
        path: where the page is written.
        records: the stage runs.

    Raises:
        ConfigError: no run fits.
    """

    def __init__(self, text: str, out: Path | None = None, uri: str | None = None) -> None:
        self.text, self.uri = text, uri
        folder = Path(text) if SweepFiles(Path(text)).plan.exists() else None
        named = Selection(text, {"sweep": (folder.absolute().name,)}) if folder is not None else None
        runs = read_runs(named or Selection.parse(text, status=()), uri)
        self.records = read_stages(runs, uri, folder)
        self.sweep = self._sweep()
        self.unlogged = unlogged(self.sweep, self.records) if self.sweep is not None else []
        self.path = out or (SweepFiles(self.sweep).report if self.sweep is not None else Path(SweepFiles.report.name))

    def _sweep(self) -> Path | None:
        names = {record.run.tags.get("sweep", "") for record in self.records}
        here = [record.folder.parent.parent for record in self.records if record.folder is not None]
        return here[0] if len(names) == 1 and here else None

    @property
    def title(self) -> str:
        """The sweep's name, or the selection."""
        return self.sweep.name if self.sweep is not None else self.text

    def write(self, films: float = FILMS) -> list[str]:
        """Write the page; return what was left out, a sentence each.

        Args:
            films: budget of all films, MB.
        """
        shown = read_films(sorted(self.records, key=lambda one: (-one.index, one.lineages)), films * MEGABYTE)
        left_out = [f"{film.record.run.name}: {film.note}" for film in shown if film.note]
        text = self.render(shown, left_out)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as building:
            building.write_text(text, encoding="utf-8")
        return left_out

    def render(self, films: Sequence[Film], left_out: Sequence[str]) -> str:
        """Return the page."""
        template = Environment(
            loader=PackageLoader("dinorl.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        ).get_template("sweep.html")  # fmt: skip
        found: SearchPart | None = read_search(self.sweep) if self.sweep is not None else None
        return template.render(
            title=self.title, facts=self._facts(), animals=self._animals(films), failures=self._failures(),
            left_out=left_out, search=found, link=self.link,
        )  # fmt: skip

    def link(self, path: Path | None) -> str | None:
        """Return a path as seen from the page, quoted; None if there is none."""
        return None if path is None else quote(os.path.relpath(path, self.path.parent))

    def _facts(self) -> list[tuple[str, str]]:
        counts = Counter(record.run.tags.get("status", "") for record in self.records)
        lineages = len({name for record in self.records for name in record.lineages})
        stages = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return [
            ("runs", f"{len(self.records)} stages of {lineages} lineages: {stages}"),
            *facts(self.records),
            ("MLflow", hide(self.uri or default_uri())),
            ("this page", f"{shlex.join(['dinorl', 'report', self.text])}, {now}"),
        ]

    def _animals(self, films: Sequence[Film]) -> list[Animal]:
        animals = []
        for title in sorted({record.species for record in self.records}):
            records = [record for record in self.records if record.species == title]
            lineages = {name for record in records for name in record.lineages}
            others = [other for other in self.unlogged if other.lineage in lineages]
            stages, cells = overview(records, others, lambda record: self.link(record.folder))
            animals.append(Animal(title, stages, cells, make_sections(records, films)))
        return animals

    def _failures(self) -> list[Failure]:
        failed = [record for record in self.records if record.run.tags.get("status") == "FAILED"]
        lost = [other for other in self.unlogged if other.status.get("status") == "FAILED"]
        return [self._failure(one.run.name, one) for one in failed] + [
            self._failure(f"{one.lineage}/{one.index}-{one.stage}", one) for one in lost
        ]

    def _failure(self, name: str, stage: StageRecord | Unlogged) -> Failure:
        log = RunFolder(stage.folder).log if stage.folder is not None else None
        error = stage.status.get("error") or "not recorded: its run folder is not on this machine"
        known = log is not None and log.exists()
        return Failure(name, "FAILED", str(error), str(log) if known else "no log", self.link(log) if known else None)
