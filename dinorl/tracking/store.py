"""The MLflow store: made by the parent before any job starts, with a run for each lineage."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dinorl.config import TrackingConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient

OUTPUTS = Path("outputs")
DATABASE, ARTIFACTS, LOCK = "mlflow.db", "mlartifacts", ".mlflow.lock"
# Tag of a stage's run that says where its run folder is.
FOLDER_TAG = "run_folder"
SWEEP_TAG = "sweep_folder"


def embedded_uri() -> str:
    """Return the uri of the embedded store, ``outputs/mlflow.db`` below the working directory."""
    return f"sqlite:///{(OUTPUTS / DATABASE).absolute()}"


def uri_of(settings: TrackingConfig) -> str:
    """Return the uri that a config means."""
    return settings.uri or embedded_uri()


def client(uri: str) -> MlflowClient:
    """Return a client; the first call imports mlflow, which takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # a server that is away must not hold anything up for long: what is not sent waits in the spool
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def create_store(settings: TrackingConfig) -> str:
    """Make the embedded store if it is not there yet, and the experiment; return its id.

    Commands that start together on a store without a schema would each try to make it, and all but one fail: one
    after the other they may look.
    """
    if settings.uri is not None:
        return experiment_id(client(settings.uri), settings.experiment)
    OUTPUTS.mkdir(exist_ok=True)
    with (OUTPUTS / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, also by a command that is killed
        # readers and writers of a write-ahead log do not wait for each other; the mode stays with the file
        with contextlib.closing(sqlite3.connect(OUTPUTS / DATABASE)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        artifacts = (OUTPUTS / ARTIFACTS).absolute().as_uri()
        return experiment_id(client(embedded_uri()), settings.experiment, artifacts)


def experiment_id(mlflow: MlflowClient, name: str, artifacts: str | None = None) -> str:
    """Return the id of an experiment, which is made if it is not there."""
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        from mlflow.exceptions import MlflowException

        try:
            return str(mlflow.create_experiment(name, artifact_location=artifacts))
        except MlflowException:  # another command made it in between
            found = mlflow.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def open_lineage(settings: TrackingConfig, name: str, tags: Mapping[str, str]) -> str:
    """Begin the run of a lineage, the parent of its stages' runs, or go on with it; return its id."""
    mlflow = client(uri_of(settings))
    experiment = experiment_id(mlflow, settings.experiment)
    if SWEEP_TAG in tags and "'" not in tags[SWEEP_TAG]:  # no filter can say a quote
        same = f"tags.{SWEEP_TAG} = '{tags[SWEEP_TAG]}' and tags.lineage = '{name}'"
        for found in mlflow.search_runs([experiment], same, max_results=1):
            mlflow.update_run(found.info.run_id, status="RUNNING")
            return str(found.info.run_id)
    run = mlflow.create_run(experiment, start_time=round(time.time() * 1000), tags=dict(tags), run_name=name)
    return str(run.info.run_id)


def close_lineage(settings: TrackingConfig, run_id: str | None, status: str, tags: Mapping[str, str]) -> None:
    """End the run of a lineage with an MLflow status, ``FINISHED``, ``FAILED`` or ``KILLED``."""
    if run_id is None:
        return
    mlflow = client(uri_of(settings))
    for key, value in tags.items():
        mlflow.set_tag(run_id, key, value)
    mlflow.set_terminated(run_id, status)


def run_folder(run_id: str, uri: str | None = None) -> Path | None:
    """Return the run folder of a stage's MLflow run, or None if there is no such run."""
    if uri is None and not (OUTPUTS / DATABASE).exists():
        return None
    from mlflow.exceptions import MlflowException

    try:
        tags = client(uri or embedded_uri()).get_run(run_id).data.tags
    except MlflowException:
        return None
    return Path(tags[FOLDER_TAG]) if FOLDER_TAG in tags else None
