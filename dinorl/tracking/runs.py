"""Finds MLflow runs."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dinorl.config import ConfigError
from dinorl.config.secrets import whole
from dinorl.files.run_folder import TrackedFolder
from dinorl.tracking.database import Meets, Row, read_rows
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import (
    FOLDER_TAG,
    OUTPUTS,
    analyze,
    client,
    database_path,
    default_uri,
    store_errors,
    unreachable,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

PAGE = 1000  # MLflow's default
_HINT = "Start it, or give another --uri"


def find(
    filters: Iterable[str], meets: Meets, keys: Iterable[str] = (), uri: str | None = None, most: int | None = None
) -> list[Row]:
    """Return the runs that meet a condition, newest first.

    Args:
        filters: MLflow's ``filter_string`` of each query that a server is asked; they may find more than is meant.
        meets: the condition.
        keys: parameters that it asks for; it may see no others.
        uri: of the MLflow server; default ``MLFLOW_TRACKING_URI``, else the embedded store.
        most: how many; default all.

    Raises:
        ConfigError: there is no store, or it cannot be reached.
    """
    uri = uri or default_uri()
    path = database_path(uri)
    if path is not None and not path.exists():
        raise ConfigError(
            f"{path}: there is no MLflow store", hint="Type the command where outputs/ is, or give --uri of a server"
        )
    analyze(uri)
    if path is not None:
        with contextlib.suppress(sqlite3.Error), no_collection():  # else MLflow says what is wrong, or reads it
            return read_rows(path, meets, list(keys), most)
    with readable(uri):
        found = {
            run.info.run_id: _row(run)
            for wanted in filters
            for run in _search(wanted, uri, most)
            if meets(run.data.tags, run.data.params, run.info.run_id)
        }
    return sorted(found.values(), key=lambda row: row.started, reverse=True)


def tagged(tags: Mapping[str, str], uri: str | None = None, most: int | None = None) -> list[Row]:
    """Return the runs that have these tags, newest first; see :func:`find`."""
    wanted = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    return find([wanted], lambda own, params, run_id: tags.items() <= own.items(), uri=uri, most=most)


def finished_runs(sweep: str | None = None, uri: str | None = None) -> list[Row]:
    """Return all finished stage runs, or those of a sweep, newest first; see :func:`find`."""
    done = {"status": "DONE"} | ({"sweep": sweep} if sweep else {})
    return [run for run in tagged(done, uri) if "stage" in run.tags]


def by_id(run_ids: Iterable[str], uri: str | None = None) -> dict[str, Row]:
    """Return runs by their ids, as far as there are such; see :func:`find`."""
    wanted = dict.fromkeys(run_ids)
    asked = f"attributes.run_id IN ({', '.join(repr(run_id) for run_id in wanted)})"
    found = {row.run_id: row for row in find([asked], lambda *of: of[2] in wanted, uri=uri)} if wanted else {}
    return {run_id: found[run_id] for run_id in wanted if run_id in found}


def artifact(place: str, name: str, uri: str | None = None) -> bytes | None:
    """Return the content of an artifact; None if it is not there.

    Args:
        place: of its run's artifacts.
        name: its path below.
        uri: see :func:`find`.
    """
    at = urlsplit(place)
    if at.scheme in ("", "file"):
        with contextlib.suppress(OSError):
            return Path(url2pathname(at.path), name).read_bytes()
        return None
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(*store_errors()):
        path = download_artifacts(f"{place}/{name}", dst_path=folder, tracking_uri=whole(uri or default_uri()))
        return Path(path).read_bytes()
    return None


@contextlib.contextmanager
def readable(uri: str) -> Iterator[None]:
    """Say of which store an error of reading comes.

    Raises:
        ConfigError: it cannot be reached.
    """
    try:
        yield
    except store_errors() as error:
        raise unreachable(uri, error, _HINT) from error


def _search(wanted: str, uri: str, most: int | None) -> Iterator[Run]:
    """Yield the runs that MLflow's ``filter_string`` accepts, newest first."""
    mlflow = client(uri)
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    token: str | None = None
    while True:
        with no_collection():
            page = mlflow.search_runs(
                experiments, wanted, max_results=most or PAGE, order_by=["attributes.start_time DESC"], page_token=token
            )
        yield from page
        token = page.token
        if not token or most:
            return


def _row(run: Run) -> Row:
    info, data = run.info, run.data
    return Row(info.run_id, info.run_name, data.tags, data.params, data.metrics, info.start_time, info.artifact_uri)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Pause the collection of garbage cycles, which takes most of the time of reading many rows."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def folders() -> dict[str, Path]:
    """Return the folders in ``outputs/`` by MLflow run id; they may have been moved or renamed."""
    spools = [Spool(path.parent) for path in OUTPUTS.rglob(TrackedFolder.sent.name)]
    return {spool.run_id: spool.path.parent for spool in spools if spool.run_id is not None}


def run_folder(run_id: str) -> Path | None:
    """Return the run folder of a stage's MLflow run, or None if there is no such run."""
    if run_id in (here := folders()):
        return here[run_id]
    with contextlib.suppress(ConfigError):
        found = by_id([run_id])
        return Path(found[run_id].tags[FOLDER_TAG]) if run_id in found and FOLDER_TAG in found[run_id].tags else None
    return None
