"""The MLflow store, made by the parent before any job starts."""

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
# Tag of a run that says where its folder is.
FOLDER_TAG = "run_folder"

# What MLflow reads from the environment when it is imported, if nobody says otherwise.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # a server that is away must not hold anything up for long: what is not sent waits in the spool
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def embedded_uri() -> str:
    """Return the uri of the embedded store, ``outputs/mlflow.db`` below the working directory."""
    return f"sqlite:///{(OUTPUTS / DATABASE).absolute()}"


def uri_of(settings: TrackingConfig) -> str:
    """Return the uri that a config means."""
    return settings.uri or embedded_uri()


def client(uri: str) -> MlflowClient:
    """Return a client; the first call imports mlflow, which takes seconds."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def create_store(settings: TrackingConfig) -> str:
    """Make the embedded store if it is not there yet, and the experiment; return its id.

    Raises:
        ConfigError: the store cannot be reached.
    """
    try:
        return _create_store(settings)
    except store_errors() as error:
        raise ConfigError(
            f"MLflow at {uri_of(settings)} cannot be reached ({_first_line(error)}). Start it, give another "
            "tracking.uri, or type tracking.required=false: then numbers are kept in the run folders, to be sent later"
        ) from error


def store_errors() -> tuple[type[Exception], ...]:
    """Return what a store that is away or damaged raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError


def _first_line(error: Exception) -> str:
    """Return what an error says, in short: those of a server that is away wrap each other."""
    innermost = error
    while innermost.__cause__ is not None or innermost.__context__ is not None:
        innermost = innermost.__cause__ or innermost.__context__  # type: ignore[assignment]
    return next(iter(str(innermost).splitlines()), "") or type(innermost).__name__


def _create_store(settings: TrackingConfig) -> str:
    """Make what is missing of the store; return the experiment's id.

    Commands that start together on a store without a schema would each try to make it, and all but one fail: one
    after the other they may look.
    """
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
        # readers and writers of a write-ahead log do not wait for each other; the mode stays with the file
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        artifacts = (database.parent / ARTIFACTS).absolute().as_uri()
        return experiment_id(client(uri), settings.experiment, artifacts)


def make_tables(database: Path) -> None:
    """Make a store without runs, as a whole or not at all: with half of its tables MLflow could not begin any more."""
    building = database.with_name(f".{database.name}-building")
    for left in database.parent.glob(f"{building.name}*"):  # by a command that was killed
        left.unlink()
    with env_override({"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}):  # nobody holds the file when it is moved
        client(f"sqlite:///{building}").search_experiments()
    os.replace(building, database)


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


def run_folder(run_id: str, uri: str | None = None) -> Path | None:
    """Return the run folder of a stage's MLflow run, or None if there is no such run."""
    if uri is None and not (OUTPUTS / DATABASE).exists():
        return None
    try:
        tags = client(uri or embedded_uri()).get_run(run_id).data.tags
    except store_errors():
        return None
    return Path(tags[FOLDER_TAG]) if FOLDER_TAG in tags else None
