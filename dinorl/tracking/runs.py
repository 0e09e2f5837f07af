"""Finds MLflow runs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dinorl.files.run_folder import TrackedFolder
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import DATABASE, FOLDER_TAG, OUTPUTS, client, default_uri, embedded_uri, store_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

PAGE = 1000  # MLflow's default


def finished_runs(sweep: str | None = None, uri: str | None = None) -> Iterator[Run]:
    """Yield all finished stage runs, newest first.

    Args:
        sweep: only runs of this sweep.
        uri: of the MLflow server; default ``MLFLOW_TRACKING_URI``, else the embedded store.
    """
    wanted = "tags.status = 'DONE' and tags.stage LIKE '%'" + (f" and tags.sweep = '{sweep}'" if sweep else "")
    return search(wanted, uri)


def search(wanted: str, uri: str | None = None, most: int | None = None) -> Iterator[Run]:
    """Yield the runs that MLflow's ``filter_string`` accepts, newest first.

    Args:
        wanted: the filter.
        uri: see :func:`finished_runs`.
        most: how many; default all.
    """
    mlflow = client(uri or default_uri())
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
    uri = default_uri()
    if uri == embedded_uri() and not (OUTPUTS / DATABASE).exists():
        return None
    try:
        tags = client(uri).get_run(run_id).data.tags
    except store_errors():
        return None
    return Path(tags[FOLDER_TAG]) if FOLDER_TAG in tags else None
