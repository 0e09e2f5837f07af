"""The MLflow store; the command creates it before any job starts."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import env_override

from dinorl.config import ConfigError, TrackingConfig
from dinorl.files.run_folder import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

OUTPUTS = Path("outputs")
DATABASE, ARTIFACTS, LOCK = "mlflow.db", "mlartifacts", ".mlflow.lock"
FOLDER_TAG = "run_folder"  # tag of a run with its folder

# Read when MLflow is imported.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # do not wait for a dead server
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def embedded_uri() -> str:
    """Return the uri of the embedded store, ``outputs/mlflow.db`` below the working directory."""
    return f"sqlite:///{(OUTPUTS / DATABASE).absolute()}"


def uri_of(settings: TrackingConfig) -> str:
    """Return the uri of a config."""
    return settings.uri or embedded_uri()


def client(uri: str) -> MlflowClient:
    """Return a client; the first call imports mlflow, which is slow."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def create_store(settings: TrackingConfig) -> str:
    """Create the embedded store and the experiment if missing; return the experiment's id.

    Raises:
        ConfigError: the store cannot be reached.
    """
    try:
        return _create_store(settings)
    except store_errors() as error:
        raise ConfigError(
            f"MLflow at {uri_of(settings)} cannot be reached ({_first_line(error)})",
            hint="Start it, give another tracking.uri, or type tracking.required=false: then numbers are kept in the "
            "run folders, to be sent later",
        ) from error


def store_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a store that is unreachable or damaged."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError


def _first_line(error: Exception) -> str:
    """Return the first line of the innermost cause; HTTP clients wrap it many times."""
    innermost = error
    while innermost.__cause__ is not None or innermost.__context__ is not None:
        innermost = innermost.__cause__ or innermost.__context__  # type: ignore[assignment]
    return next(iter(str(innermost).splitlines()), "") or type(innermost).__name__


def _create_store(settings: TrackingConfig) -> str:
    """Create what is missing, under a lock against other commands; return the experiment's id."""
    uri = uri_of(settings)
    scheme, _, path = uri.partition(":///")
    if scheme != "sqlite":
        return experiment_id(client(uri), settings.experiment)
    database = Path(path.partition("?")[0])
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = database.parent / LOCK
    lock.touch()
    with locked(lock, math.inf):
        if not database.exists():
            make_tables(database)
        # readers do not block writers
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        artifacts = (database.parent / ARTIFACTS).absolute().as_uri()
        return experiment_id(client(uri), settings.experiment, artifacts)


def make_tables(database: Path) -> None:
    """Create an empty store atomically: MLflow cannot start on partial tables."""
    building = database.with_name(f".{database.name}-building")
    for left in database.parent.glob(f"{building.name}*"):  # from a killed command
        left.unlink()
    with env_override({"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}):  # no open connection at the move
        client(f"sqlite:///{building}").search_experiments()
    os.replace(building, database)


def experiment_id(mlflow: MlflowClient, name: str, artifacts: str | None = None) -> str:
    """Return the id of an experiment; create it if missing."""
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        from mlflow.exceptions import MlflowException

        try:
            return str(mlflow.create_experiment(name, artifact_location=artifacts))
        except MlflowException:  # another command created it
            found = mlflow.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
