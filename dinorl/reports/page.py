"""One HTML page of a sweep: its runs, verdicts, curves, reward shares and films, in one file that can be mailed."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from dinorl.config.secrets import hide
from dinorl.files.run_folder import RunFolder, SweepFiles, whole_file
from dinorl.reports.films import MEGABYTE, Film, left_out, read_films
from dinorl.reports.heading import facts
from dinorl.reports.search import SearchPart, read_search
from dinorl.reports.sections import Section, make_sections
from dinorl.reports.stages import StageRecord, Unlogged, natural, read_stages, unlogged
from dinorl.reports.tables import Cell, overview
from dinorl.tracking.store import default_uri
from dinorl.verdicts.records import read_runs
from dinorl.verdicts.selection import Selection

FAILED = "FAILED"
FILMS = 10.0  # MB of films in a page: with base64 it still fits into a mail


@dataclass(frozen=True)
class Failure:
    """Stages that failed with the same error.

    Attributes:
        error: its text.
        logs: name of each stage, path of its log or what is known of it, and a link or None.
    """

    error: str
    logs: list[tuple[str, str, str | None]]


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
        self.text, self.uri = text, uri or default_uri()
        folder = Path(text) if SweepFiles(Path(text)).plan.exists() else None
        named = Selection(text, {"sweep": (folder.absolute().name,)}) if folder is not None else None
        runs = read_runs(named or Selection.parse(text, status=()), self.uri)
        self.records = read_stages(runs, self.uri, folder)
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

    def write(self, films: float = FILMS) -> dict[str, list[str]]:
        """Write the page; return the names of films that are not there as they were, by what was done.

        Args:
            films: budget of all films, MB; 0: none.
        """
        last_first = sorted(self.records, key=lambda one: (-one.index, *one.order))
        shown = read_films(last_first, films * MEGABYTE) if films > 0.0 else []
        text = self.render(shown)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as building:
            building.write_text(text, encoding="utf-8")
        return left_out(shown)

    def render(self, films: Sequence[Film]) -> str:
        """Return the page."""
        template = Environment(
            loader=PackageLoader("dinorl.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        ).get_template("sweep.html")  # fmt: skip
        found: SearchPart | None = read_search(self.sweep) if self.sweep is not None else None
        return template.render(
            title=self.title, facts=self._facts(), animals=self._animals(films), failures=self._failures(),
            left_out=left_out(films), search=found, link=self.link,
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
            *facts(self.records, self.uri),
            ("MLflow", hide(self.uri)),
            ("this page", f"{shlex.join(['dinorl', 'report', self.text])}, {now}"),
        ]

    def _animals(self, films: Sequence[Film]) -> list[Animal]:
        animals = []
        for species in sorted({record.run.tags["species"] for record in self.records}):
            records = [record for record in self.records if record.run.tags["species"] == species]
            lineages = {name for record in records for name in record.lineages}
            others = [one for one in self.unlogged if one.lineage in lineages or one.lineage.startswith(f"{species}-")]
            stages, cells = overview(records, others, lambda record: self.link(record.folder))
            animals.append(Animal(records[0].title, stages, cells, make_sections(records, films)))
        return animals

    def _failures(self) -> list[Failure]:
        failed: list[tuple[str, StageRecord | Unlogged]] = [
            (one.run.name, one) for one in self.records if one.run.tags.get("status") == FAILED
        ]
        failed += [(one.name, one) for one in self.unlogged if one.status.get("status") == FAILED]
        found: dict[str, Failure] = {}
        for name, stage in sorted(failed, key=lambda one: natural(one[0])):
            error = str(stage.status.get("error") or "not recorded")
            log = RunFolder(stage.folder).log if stage.folder is not None else None
            known = log is not None and log.exists()
            where = (str(log), self.link(log)) if known else ("no log on this machine", None)
            found.setdefault(error, Failure(error, [])).logs.append((name, *where))
        return list(found.values())
