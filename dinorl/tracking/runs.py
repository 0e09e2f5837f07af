"""Finds MLflow runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dinorl.tracking.store import DATABASE, FOLDER_TAG, OUTPUTS, client, embedded_uri, store_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

PAGE = 1000  # MLflow's default


def finished_runs(sweep: str | None = None, uri: str | None = None) -> Iterator[Run]:
    """Yield all finished stage runs, newest first.

    Args:
        sweep: only runs of this sweep.
        uri: of the MLflow server; default the embedded store.
    """
    mlflow = client(uri or embedded_uri())
    wanted = "tags.status = 'DONE'" + (f" and tags.sweep = '{sweep}'" if sweep else "")
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    token: str | None = None
    while True:
        page = mlflow.search_runs(
            experiments, wanted, max_results=PAGE, order_by=["attributes.start_time DESC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def run_folder(run_id: str) -> Path | None:
    """Return the run folder of a stage's MLflow run, or None if there is no such run."""
    if not (OUTPUTS / DATABASE).exists():
        return None
    try:
        tags = client(embedded_uri()).get_run(run_id).data.tags
    except store_errors():
        return None
    return Path(tags[FOLDER_TAG]) if FOLDER_TAG in tags else None
