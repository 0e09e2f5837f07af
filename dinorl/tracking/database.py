"""Reads runs and histories from the tables of an SQLite store; through MLflow it takes ten times as long."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

_V = TypeVar("_V")

Meets = Callable[[Mapping[str, str], Mapping[str, str], str], bool]  # of tags, parameters and run id
Histories = dict[tuple[str, str], dict[int, float]]  # value by step, by run id and metric

_ACTIVE = """
    SELECT run_uuid, runs.name, start_time, artifact_uri FROM runs JOIN experiments USING (experiment_id)
    WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active' ORDER BY start_time DESC, run_uuid
"""
_LISTED = "(SELECT value FROM json_each(?))"
_PARAMS = "SELECT run_uuid, key, value FROM params"
_NEWEST = "SELECT run_uuid, key, CASE is_nan WHEN 0 THEN value END FROM latest_metrics"
_HISTORIES = f"""
    SELECT run_uuid, key, step, CASE is_nan WHEN 0 THEN value END FROM metrics
    WHERE run_uuid IN {_LISTED} AND key IN {_LISTED} ORDER BY timestamp, value
"""


class Row(NamedTuple):
    """A run.

    Attributes:
        run_id: of MLflow.
        name: such as ``trex-ppo-s0/3-bite``.
        tags: of MLflow.
        params: its parameters.
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


def read_rows(path: Path, meets: Meets, keys: Sequence[str], most: int | None = None) -> list[Row]:
    """Return the active runs that meet a condition, newest first.

    Args:
        path: of the database.
        meets: the condition.
        keys: parameters that it asks for; it sees no others.
        most: how many; default all.

    Raises:
        sqlite3.Error: the database is damaged, locked, or has another version's tables.
    """
    with _open(path) as database:
        active = list(database.execute(_ACTIVE))
        tags = _by_run(database.execute("SELECT run_uuid, key, value FROM tags"))
        params = _by_run(database.execute(f"{_PARAMS} WHERE key IN {_LISTED}", [json.dumps(list(keys))]))
        chosen = [row for row in active if meets(tags.get(row[0], {}), params.get(row[0], {}), row[0])][:most]
        listed = [json.dumps([row[0] for row in chosen])]
        params = _by_run(database.execute(f"{_PARAMS} WHERE run_uuid IN {_LISTED}", listed))
        newest = database.execute(f"{_NEWEST} WHERE run_uuid IN {_LISTED}", listed)
        metrics = _by_run((run, key, _number(value)) for run, key, value in newest)
    return [
        Row(run, name, tags.get(run, {}), params.get(run, {}), metrics.get(run, {}), started, artifacts)
        for run, name, started, artifacts in chosen
    ]


def read_histories(path: Path, runs: Sequence[str], keys: Sequence[str]) -> Histories:
    """Return the metrics of runs over their steps; of two values at a step the later one.

    Args:
        path: of the database.
        runs: ids.
        keys: metrics.

    Raises:
        sqlite3.Error: see :func:`read_rows`.
    """
    found: Histories = {}
    with _open(path) as database:
        for run, key, step, value in database.execute(_HISTORIES, [json.dumps(list(runs)), json.dumps(list(keys))]):
            found.setdefault((run, key), {})[step] = _number(value)
    return found


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        yield database


def _by_run(rows: Iterable[tuple[str, str, _V]]) -> dict[str, dict[str, _V]]:
    found: dict[str, dict[str, _V]] = {}
    for run, key, value in rows:
        found.setdefault(run, {})[key] = value
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value
