"""A search in MLflow: its own run, and below it a run for each trial and seed, above those of their stages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dinorl.files.run_folder import SearchFiles, TrackedFolder, read_status
from dinorl.search.journal import Journal
from dinorl.search.outcome import FINISHED, PASSED, Outcome, Row
from dinorl.search.report import schedule_text
from dinorl.search.trials import Trial, Trials
from dinorl.sweep import parents
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.lineages import SEND, End, SweepRuns
from dinorl.sweep.plan import Lineage
from dinorl.tracking.describe import NOTE, source_tags
from dinorl.tracking.lineage import HURRIED_TIMEOUT, TIMEOUT, close_runs, open_lineages
from dinorl.tracking.spool import MAX_VALUE, Spool

SCORE = "search/score"  # metric of a trial's run


class Records(SweepRuns):
    """Writes what MLflow is sent of a search; the runs of stages send their own.

    Args:
        folder, call: see :class:`dinorl.sweep.lineages.SweepRuns`.
        params: of the search's own run.
    """

    def __init__(self, folder: SweepFolder, call: Callable[..., Any], params: Mapping[str, str]) -> None:
        super().__init__(folder, call)
        self._params = params

    def open(self, trials: Trials, only: Sequence[Trial] | None = None) -> None:
        """Begin or resume the runs of the search and of its trials, or of some trials alone."""
        path, config = self.folder.path, trials.plan.jobs[0].config
        path.mkdir(parents=True, exist_ok=True)
        common = {"species": config.species.name, "sweep": path.name, "status": "RUNNING", **source_tags()}
        about = f"```sh\n{self.command}\n```\n"
        tags = {} if only else {path: {**common, "search": path.name, NOTE: about}}
        values: dict[Path, Mapping[str, str]] = {path: self._params}
        for trial in only or trials.each:
            for lineage in filter(lambda lineage: not self._closed(lineage), trial.lineages):
                job = lineage.jobs[-1]
                tags[path / lineage.name] = {
                    **common, "algo": job.config.algo.name, "seed": str(job.config.seed), "lineage": lineage.name,
                    "search": path.name, "trial": str(trial.number),
                }  # fmt: skip
                values[path / lineage.name] = {"seed": str(job.config.seed), **trial.values}
        self._call(open_lineages, config.tracking, tags, path, values)

    def close(self, trials: Trials, outcome: Outcome, journal: Journal, note: str) -> None:
        """End the runs of the search and of its trials, and send what waits; ``note`` is the search's."""
        ends: dict[Path, End] = {}
        for row in outcome.rows:
            status = "DONE" if row.outcome in (PASSED, FINISHED) else row.outcome.upper()
            for i, lineage in enumerate(row.trial.lineages):
                folder = self.folder.path / lineage.name
                ends[folder] = SEND
                if not self._closed(lineage):
                    self._add(folder, self._shown(lineage))
                    Spool(folder).append(_metrics(journal, row.trial.number, i) + _values(row))
                    schedule = {"schedule": schedule_text(row.schedule)[:MAX_VALUE]} if row.schedule else {}
                    tags = {"status": status} | schedule
                    ends[folder] = ("FINISHED" if status == "DONE" else "KILLED", tags)
        for job in trials.plan.jobs:  # their last entries may wait
            ends[self.folder.run_dir(job)] = SEND
        files = SearchFiles(self.folder.path)
        names = [files.trials, files.importance, files.scores, files.keys, files.search, files.journal]
        entries: list[dict[str, Any]] = [{"artifact": path.name, "folder": None} for path in names]
        Spool(self.folder.path).append([*entries, {"metrics": outcome.metrics(), "step": 0, "time": _now()}])
        tags = {"status": "FAILED" if outcome.failed else "DONE", NOTE: note, **outcome.tags()}
        ends[self.folder.path] = ("FAILED" if outcome.failed else "FINISHED", tags)
        self._end(ends, 4 * TIMEOUT)

    def close_interrupted(self, trials: Trials) -> None:
        """End the runs of an interrupted search, after its stages."""
        ends: dict[Path, End] = {self.folder.path: ("KILLED", {"status": "INTERRUPTED"})}
        for trial in trials.each:
            ends |= self._interrupted(trials.own(trial))
            for lineage in trial.lineages:
                states = [read_status(self.folder.run_dir(job)) or {} for job in lineage.jobs[trials.first :]]
                if not all(state.get("status") in ("DONE", "PRUNED") for state in states):
                    ends[self.folder.path / lineage.name] = ("KILLED", {"status": "INTERRUPTED"})
        existing = {folder: end for folder, end in ends.items() if TrackedFolder(folder).spool.exists()}
        self._call(close_runs, existing, HURRIED_TIMEOUT)

    def _shown(self, lineage: Lineage) -> list[dict[str, Any]]:
        """Return what the run of a trial shows of its stages."""
        states = {job.key: read_status(self.folder.run_dir(job)) for job in lineage.jobs}
        over = {key: state for key, state in states.items() if state is not None}
        return parents.entries(lineage, over, self.folder.path, self.command)

    def _closed(self, lineage: Lineage) -> bool:
        """Whether a trial's run has its scores, which it gets at the end, once."""
        spool = TrackedFolder(self.folder.path / lineage.name).spool
        return spool.exists() and f'"{SCORE}"' in spool.read_text(encoding="utf-8")


def _metrics(journal: Journal, trial: int, seed: int) -> list[dict[str, Any]]:
    """Return a trial's scores as entries of its spool."""
    reports = [entry.report for entry in journal.entries if entry.report.trial == trial and entry.report.scores]
    scores = {r.steps: {SCORE: r.score, f"{SCORE}_of_seed": r.scores[seed]} for r in reports if seed < len(r.scores)}
    return [{"metrics": metrics, "step": steps, "time": _now()} for steps, metrics in scores.items()]


def _values(row: Row) -> list[dict[str, Any]]:
    """Return the numbers that a member's policy was trained with, as entries of its spool."""
    entries = []
    for change in row.schedule:
        numbers = {}
        for key, text in change.values.items():
            with contextlib.suppress(ValueError):  # a choice that is no number
                numbers[f"search/{key}"] = float(text)
        entries.append({"metrics": numbers, "step": change.steps, "time": _now()})
    return entries


def _now() -> int:
    """Return MLflow's timestamp, ms."""
    return round(time.time() * 1000)
