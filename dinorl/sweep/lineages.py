"""The MLflow side of a sweep: the store, and a parent run for each lineage."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dinorl.config import ConfigError
from dinorl.files.run_folder import read_status, write_status
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.plan import Job, Plan
from dinorl.tracking.terminal import say

# MLflow status, tags.
End = tuple[str, Mapping[str, str]]


class SweepRuns:
    """What the MLflow runs of sweeps and searches share.

    Args:
        folder: of the sweep.
        call: calls a function that needs MLflow.
    """

    def __init__(self, folder: SweepFolder, call: Callable[..., Any]) -> None:
        self.folder, self._call = folder, call

    def _end(self, ends: Mapping[Path, End], *patience: float) -> None:
        """End runs by folder and send what waits; see :func:`dinorl.tracking.lineage.close_runs`."""
        from dinorl.tracking.lineage import close_runs

        if self._call(close_runs, ends, *patience):
            say(f"MLflow has not received everything; type dinorl send {shlex.quote(str(self.folder.path))}")

    def _interrupted(self, jobs: Iterable[Job]) -> dict[Path, End]:
        """Mark jobs that still run as interrupted; return the ends of their runs."""
        ends: dict[Path, End] = {}
        for folder in map(self.folder.run_dir, jobs):
            state = read_status(folder)
            if state is not None and state["status"] == "RUNNING":
                write_status(folder, **state | {"status": "INTERRUPTED", "error": "interrupted with its command"})
                ends[folder] = ("KILLED", {"status": "INTERRUPTED"})
        return ends


class LineageRuns(SweepRuns):
    """Begins and ends the MLflow runs of a sweep."""

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
        from dinorl.tracking.lineage import open_lineages

        tags = {}
        for lineage in plan.lineages:
            config = lineage.jobs[0].config
            tags[self._path(lineage.name)] = {
                "species": config.species.name, "algo": config.algo.name, "seed": str(config.seed),
                "lineage": lineage.name, "sweep": self.folder.path.name,
            }  # fmt: skip
        self._call(open_lineages, plan.jobs[0].config.tracking, tags)

    def close(self, plan: Plan, states: Mapping[str, Mapping[str, Any]]) -> None:
        """End the parent runs and the runs of lost jobs; send unsent entries.

        Args:
            plan: of the sweep.
            states: final state of each job, by its key.
        """
        ends: dict[Path, End] = {}
        for job in plan.jobs:
            if states[job.key].get("lost"):
                ends[self.folder.run_dir(job)] = ("FAILED", {"status": "FAILED"})
            elif states[job.key].get("reused"):  # may have unsent entries
                ends[self.folder.run_dir(job)] = ("", {})
        for lineage in plan.lineages:
            shared = {
                f"shared.{job.index}-{job.stage}": str(states[job.key].get("mlflow_run"))
                for job in lineage.jobs
                if job.lineage != lineage.name
            }
            done = all(states[job.key]["status"] == "DONE" for job in lineage.jobs)
            ends[self._path(lineage.name)] = ("FINISHED" if done else "FAILED", shared)
        self._end(ends)

    def close_interrupted(self, plan: Plan) -> None:
        """End the runs of an interrupted command, after its jobs."""
        from dinorl.tracking.lineage import HURRIED_TIMEOUT, close_runs

        ends: dict[Path, End] = {}
        for lineage in plan.lineages:
            states = [read_status(self.folder.run_dir(job)) or {} for job in lineage.jobs]
            done = all(state.get("status") == "DONE" for state in states)
            ends[self._path(lineage.name)] = ("FINISHED" if done else "KILLED", {})
        self._call(close_runs, ends | self._interrupted(plan.jobs), HURRIED_TIMEOUT)

    def _path(self, lineage: str) -> Path:
        return self.folder.path / lineage
