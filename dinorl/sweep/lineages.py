"""The MLflow side of a sweep: the store, and a parent run for each lineage."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dinorl.config import ConfigError
from dinorl.files.run_folder import TrackedFolder, read_status, write_status
from dinorl.sweep import parents
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.parents import States
from dinorl.sweep.plan import Job, Lineage, Plan
from dinorl.tracking.describe import NOTE, own_files, source_tags
from dinorl.tracking.lineage import HURRIED_TIMEOUT, close_runs, open_lineages
from dinorl.tracking.spool import Spool
from dinorl.tracking.terminal import say

# MLflow status, tags.
End = tuple[str, Mapping[str, str]]
SEND: End = ("", {})  # what waits, without ending the run


class SweepRuns:
    """What the MLflow runs of sweeps and searches share.

    Args:
        folder: of the sweep.
        call: calls a function that needs MLflow.
    """

    def __init__(self, folder: SweepFolder, call: Callable[..., Any]) -> None:
        self.folder, self._call = folder, call
        self.command = parents.command_line(sys.argv[1:])

    def _end(self, ends: Mapping[Path, End], *patience: float) -> None:
        """End runs by folder and send what waits; see :func:`dinorl.tracking.lineage.close_runs`."""
        if self._call(close_runs, ends, *patience):
            say(f"MLflow has not received everything; type dinorl send {shlex.quote(str(self.folder.path))}")

    def _interrupted(self, jobs: Iterable[Job]) -> dict[Path, End]:
        """Mark jobs that still run as interrupted; return the ends of their runs."""
        ends: dict[Path, End] = {}
        for folder in map(self.folder.run_dir, jobs):
            state = read_status(folder)
            if state is not None and state["status"] == "RUNNING":
                write_status(folder, **state | {"status": "INTERRUPTED", "error": "interrupted with its command"})
                self._add(folder, own_files(), repeat=True)
                ends[folder] = ("KILLED", {"status": "INTERRUPTED"})
        return ends

    def _add(self, folder: Path, entries: Iterable[dict[str, Any]], repeat: bool = False) -> None:
        """Add entries to the spool of a folder that has an MLflow run; those it has already only to ``repeat`` them."""
        with contextlib.suppress(OSError):  # a full disk: the sweep goes on
            if TrackedFolder(folder).spool.exists():
                spool = Spool(folder)
                (spool.append if repeat else spool.append_new)(entries)


class LineageRuns(SweepRuns):
    """Begins and ends the MLflow runs of a sweep."""

    def __init__(self, folder: SweepFolder, call: Callable[..., Any]) -> None:
        super().__init__(folder, call)
        self._ended: set[str] = set()  # names of lineages
        self._away = False  # the store

    def create_store(self, plan: Plan) -> None:
        """Create the store before jobs could race for it.

        Raises:
            ConfigError: it cannot be reached, and ``tracking.required`` is true.
        """
        from dinorl.tracking import store

        settings = plan.jobs[0].config.tracking
        try:
            self._call(store.create_store, settings)
        except ConfigError as error:
            if settings.required:
                raise
            say(f"{error.problem}; numbers are kept in the run folders")

    def open(self, plan: Plan) -> None:
        """Begin or resume a parent run for each lineage."""
        tags, params = {}, {}
        for lineage in plan.lineages:
            config, path = lineage.jobs[0].config, self._path(lineage.name)
            tags[path] = {
                "species": config.species.name, "algo": config.algo.name, "seed": str(config.seed),
                "lineage": lineage.name, "sweep": self.folder.path.name, "status": "RUNNING", **source_tags(),
                NOTE: parents.note(lineage, {}, self.command),
            }  # fmt: skip
            params[path] = parents.parameters(lineage)
        self._call(open_lineages, plan.jobs[0].config.tracking, tags, None, params)

    def job_over(self, plan: Plan, job: Job, states: States) -> None:
        """Add a job that is over to the runs of its lineages, and end those whose last job it is.

        The next stage sends it with its own beginning.

        Args:
            plan: of the sweep.
            job: that is over.
            states: of the jobs that are over, by key.
        """
        ended = {}
        for lineage in plan.lineages:
            if job in lineage.jobs:
                path = self._path(lineage.name)
                try:
                    self._add(path, parents.entries(lineage, states, self.folder.path, self.command))
                except Exception as error:  # a full disk, a damaged file: the sweep goes on
                    say(f"{path}: its run in MLflow lacks numbers of {job.title} ({type(error).__name__}: {error})")
                if all(one.key in states for one in lineage.jobs):
                    self._add(path, _end(lineage, states), repeat=True)  # a resumed run has begun again
                    self._ended.add(lineage.name)
                    ended[path] = SEND
        if ended and len(self._ended) < len(plan.lineages) and not self._away:  # close() sends the last
            self._away = bool(self._call(close_runs, ended))

    def close(self, plan: Plan, states: States) -> None:
        """End the runs of lost jobs; send unsent entries.

        Args:
            plan: of the sweep.
            states: final state of each job, by its key.
        """
        ends: dict[Path, End] = {}
        for job in plan.jobs:
            if states[job.key].get("lost"):
                self._add(self.folder.run_dir(job), own_files(), repeat=True)
                ends[self.folder.run_dir(job)] = ("FAILED", {"status": "FAILED"})
            elif states[job.key].get("reused"):  # may have unsent entries
                ends[self.folder.run_dir(job)] = SEND
        self._end(ends | {self._path(lineage.name): SEND for lineage in plan.lineages})

    def close_interrupted(self, plan: Plan) -> None:
        """End the runs of an interrupted command, after its jobs."""
        ends = {
            self._path(lineage.name): SEND if lineage.name in self._ended else ("KILLED", {"status": "INTERRUPTED"})
            for lineage in plan.lineages
        }
        self._call(close_runs, ends | self._interrupted(plan.jobs), HURRIED_TIMEOUT)

    def _path(self, lineage: str) -> Path:
        return self.folder.path / lineage


def _end(lineage: Lineage, states: States) -> list[dict[str, Any]]:
    """Return the entries that end a lineage's run."""
    own = [(job, states[job.key]) for job in lineage.jobs]
    status = next((str(state["status"]) for _, state in own if state["status"] != "DONE"), "DONE")
    shared = {
        f"shared.{parents.section(job)}": str(state.get("mlflow_run")) for job, state in own
        if job.lineage != lineage.name
    }  # fmt: skip
    end = {"end": "FINISHED" if status == "DONE" else "FAILED", "time": round(1000.0 * time.time())}
    return [{"tags": {"status": status, **shared}}, end]
