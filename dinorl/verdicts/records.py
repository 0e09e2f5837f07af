"""Stage runs as MLflow has them, with their evaluations."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinorl.config import ConfigError
from dinorl.config.errors import nearest
from dinorl.config.secrets import hide
from dinorl.tracking.database import Histories, Meets, Row, read_histories
from dinorl.tracking.runs import find, no_collection, readable, tagged
from dinorl.tracking.store import FOLDER_TAG, client, database_path, default_uri
from dinorl.verdicts.selection import DONE, EVENT, RUN_ID, TAGS, Selection

EVALUATION = "eval/"  # before the name of an evaluation's metric
RETURN, DEVIATION, CONSECUTIVE = "eval/return_mean", "eval/return_std", "gate/consecutive"
READERS = 8  # threads


class StageRun(Row):
    """One stage run.

    Its parameters are the flattened composed config, of an older run with the keys of every algorithm.
    """

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
    found = find(selection.filters(), _is_meant(selection), selection.values, uri)
    if not found:
        raise _nothing(selection, uri or default_uri())
    return [StageRun(*row) for row in found]


def _is_meant(selection: Selection) -> Meets:
    return lambda tags, params, run_id: "stage" in tags and selection.accepts(tags, params, run_id)


def known_keys(runs: Iterable[StageRun]) -> set[str]:
    """Return the tags and parameters that any of the runs has and a selection may name."""
    runs = list(runs)
    tags = {tag for run in runs for tag in TAGS if tag in run.tags}
    return tags.union(*(run.params for run in runs))


def _nothing(selection: Selection, uri: str) -> ConfigError:
    """Return the error of a selection that no run fits."""
    newest = [StageRun(*row) for row in tagged({"stage_index": "1"}, uri, most=1)]
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
    with readable(uri), no_collection():
        found = _histories(uri, runs, keys)
    curves: dict[str, dict[str, Curve]] = {run.run_id: {} for run in runs}
    for (run_id, key), points in found.items():
        steps = sorted(points)
        curves[run_id][key] = Curve(np.asarray(steps, np.int64), np.asarray([points[step] for step in steps], float))
    return curves


def _histories(uri: str, runs: Sequence[StageRun], keys: Sequence[str]) -> Histories:
    path = database_path(uri)
    if path is not None:
        with contextlib.suppress(sqlite3.Error):  # another version's tables
            return read_histories(path, [run.run_id for run in runs], keys)
    mlflow = client(uri)
    wanted = [(run.run_id, key) for run in runs for key in keys if key in run.metrics]
    with ThreadPoolExecutor(READERS) as readers:
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
