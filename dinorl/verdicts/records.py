"""Stage runs as MLflow has them, with their evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dinorl.config import ConfigError
from dinorl.config.errors import nearest
from dinorl.config.secrets import hide
from dinorl.tracking.runs import no_collection, search
from dinorl.tracking.store import FOLDER_TAG, analyze, client, database_path, default_uri, store_errors, unreachable
from dinorl.verdicts.selection import DONE, EVENT, RUN_ID, TAGS, Selection

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EVALUATION = "eval/"  # before the name of an evaluation's metric
RETURN, DEVIATION, CONSECUTIVE = "eval/return_mean", "eval/return_std", "gate/consecutive"
READERS = 8  # threads
_HINT = "Start it, or give another --uri"


@dataclass(frozen=True)
class StageRun:
    """One stage run.

    Attributes:
        run_id: of MLflow.
        name: such as ``trex-ppo-s0/3-bite``.
        tags: of MLflow.
        params: the flattened composed config; of an older run with the keys of every algorithm.
        metrics: the last value of each.
        started: ms since the epoch.
        artifacts: where its artifacts are.
    """

    run_id: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    started: int
    artifacts: str = ""

    @classmethod
    def of(cls, run: Run) -> StageRun:
        """Read a run of MLflow."""
        info, data = run.info, run.data
        return cls(info.run_id, info.run_name, data.tags, data.params, data.metrics, info.start_time, info.artifact_uri)

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.tags["seed"])

    @property
    def gate(self) -> str:
        """The verdict: passed, not proven, advanced_on_budget …"""
        return self.tags["gate"]

    @property
    def folder(self) -> Path:
        """The run folder, where it was written."""
        return Path(self.tags[FOLDER_TAG])

    @property
    def stage(self) -> str:
        """The stage, the third by its event."""
        stage = self.tags["stage"]
        return self.params.get(EVENT, stage) if self.tags["stage_index"] == "3" else stage

    @cached_property
    def minutes(self) -> float:
        """Wall time of the stage, min; NaN if it has not ended."""
        return self.metrics.get("time/stage_s", float("nan")) / 60.0


@dataclass(frozen=True)
class Curve:
    """A metric over environment steps.

    Attributes:
        steps: ``(n,)``, ascending.
        values: ``(n,)``.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, step: int) -> float:
        """Return the newest value up to a step; NaN before the first."""
        index = int(np.searchsorted(self.steps, step, side="right")) - 1
        return float(self.values[index]) if index >= 0 else float("nan")

    def exactly(self, step: int) -> float:
        """Return the value at a step; NaN if there is none, for MLflow keeps no NaN."""
        index = int(np.searchsorted(self.steps, step))
        found = index < len(self.steps) and self.steps[index] == step
        return float(self.values[index]) if found else float("nan")


Curves = Mapping[str, Curve]  # by metric


def read_runs(selection: Selection, uri: str | None = None) -> list[StageRun]:
    """Return the stage runs that a selection means, newest first.

    Args:
        selection: conditions.
        uri: of the MLflow server; default ``MLFLOW_TRACKING_URI``, else the embedded store.

    Raises:
        ConfigError: there is none, or the store cannot be reached.
    """
    uri = uri or default_uri()
    path = database_path(uri)
    if path is not None and not path.exists():
        raise ConfigError(
            f"{path}: there is no MLflow store", hint="Type the command where outputs/ is, or give --uri of a server"
        )
    analyze(uri)
    try:
        found = {
            run.info.run_id: StageRun.of(run)
            for wanted in selection.filters()
            for run in search(wanted, uri)
            if "stage" in run.data.tags and selection.accepts(run.data.tags, run.data.params, run.info.run_id)
        }
        if not found:
            raise _nothing(selection, uri)
    except store_errors() as error:
        raise unreachable(uri, error, _HINT) from error
    return sorted(found.values(), key=lambda run: run.started, reverse=True)


def known_keys(runs: Iterable[StageRun]) -> set[str]:
    """Return the tags and parameters that any of the runs has and a selection may name."""
    runs = list(runs)
    tags = {tag for run in runs for tag in TAGS if tag in run.tags}
    return tags.union(*(run.params for run in runs))


def _nothing(selection: Selection, uri: str) -> ConfigError:
    """Return the error of a selection that no run fits."""
    newest = [StageRun.of(run) for run in search("tags.stage_index = '1'", uri, most=1)]
    known = known_keys(newest)
    for key in selection.values:
        if newest and key not in (RUN_ID, EVENT) and key not in known and (close := nearest(key, known)):
            return ConfigError(f"{selection.text}: runs have no {key}; the nearest is {close[0]}")
    wanted = "finished stage run" if selection.values.get("status") == (DONE,) else "stage run"
    hint = "dinorl ui shows the runs" + ("; status=RUNNING selects unfinished ones" if "finished" in wanted else "")
    return ConfigError(f"{selection.text}: no {wanted} in {hide(uri)} fits", hint=hint)


def read_curves(runs: Iterable[StageRun], keys: Sequence[str], uri: str | None = None) -> dict[str, dict[str, Curve]]:
    """Return metrics over environment steps, by run id and key; keys that a run lacks are left out.

    Raises:
        ConfigError: the store cannot be reached.
    """
    uri, runs = uri or default_uri(), list(runs)
    try:
        with no_collection():
            found = _histories(client(uri), runs, keys)
    except store_errors() as error:
        raise unreachable(uri, error, _HINT) from error
    curves: dict[str, dict[str, Curve]] = {run.run_id: {} for run in runs}
    for (run_id, key), points in found.items():
        steps = sorted(points)
        curves[run_id][key] = Curve(np.asarray(steps, np.int64), np.asarray([points[step] for step in steps], float))
    return curves


def _histories(
    mlflow: MlflowClient, runs: Sequence[StageRun], keys: Sequence[str]
) -> Mapping[tuple[str, str], Mapping[int, float]]:
    """Return values by step, by run id and key."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    having = {key: [run.run_id for run in runs if key in run.metrics] for key in keys}
    bulk = getattr(mlflow._tracking_client.store, "get_metric_history_bulk", None)
    if bulk is not None:  # a database
        for key, run_ids in having.items():
            for one in bulk(run_ids, key, None):
                found.setdefault((one.run_id, key), {})[one.step] = one.value
        return found
    wanted = [(run_id, key) for key, run_ids in having.items() for run_id in run_ids]
    with ThreadPoolExecutor(READERS) as readers:  # a server
        histories = readers.map(lambda one: mlflow.get_metric_history(*one), wanted)
        return {
            one: {point.step: point.value for point in points} for one, points in zip(wanted, histories, strict=True)
        }


def kept(curves: Curves) -> int | None:
    """Return the environment steps of the evaluation whose bundle was kept; None without evaluations.

    Args:
        curves: of one run, with :data:`RETURN`, :data:`DEVIATION` and :data:`CONSECUTIVE`. The rank is that of
            :class:`dinorl.training.evaluations.Best`.
    """
    if RETURN not in curves:
        return None
    mean, deviation, gate = curves[RETURN], curves[DEVIATION], curves.get(CONSECUTIVE)
    ranks = [
        (gate is not None and gate.at(step) > 0, value - deviation.at(step), -step)
        for step, value in zip(mean.steps.tolist(), mean.values.tolist(), strict=True)
    ]
    return int(-max(ranks)[2])
