"""The MLflow store; the command creates it before any job starts."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import env_override

from dinorl.config import ConfigError, TrackingConfig
from dinorl.config.secrets import hide, whole
from dinorl.files.run_folder import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

OUTPUTS = Path("outputs")
DATABASE, ARTIFACTS, LOCK = "mlflow.db", "mlartifacts", ".mlflow.lock"
FOLDER_TAG = "run_folder"  # tag of a run with its folder

SQLITE = "sqlite:///"
_COUNTED = 1000  # rows of an index: milliseconds
_NO_PATH = re.compile(r"[?#%']|\$\{")  # in the path of a database

# MLflow's columns with absolute locations of artifacts.
_LOCATIONS = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
    ("model_versions", "source"), ("model_versions", "storage_location"),
)  # fmt: skip

# Read when MLflow is imported.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # do not wait for a dead server
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # a model takes no files of the working directory
    "MLFLOW_UV_AUTO_DETECT": "false",
}


def embedded_uri() -> str:
    """Return the uri of the embedded store, ``outputs/mlflow.db`` below the working directory."""
    return f"{SQLITE}{(OUTPUTS / DATABASE).absolute()}"


def default_uri() -> str:
    """Return the uri of ``MLFLOW_TRACKING_URI``, or of the embedded store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or embedded_uri()


def uri_of(settings: TrackingConfig) -> str:
    """Return the uri of a config, the same in every working directory; see :mod:`dinorl.config.secrets`.

    Raises:
        ConfigError: a database cannot have this path.
    """
    uri = settings.uri or embedded_uri()
    if not uri.startswith(SQLITE):
        return uri
    path, question, options = uri.removeprefix(SQLITE), "", ""
    if settings.uri is not None:
        path, question, options = path.partition("?")
    path = str(Path(path).absolute())
    if bad := _NO_PATH.search(path):
        raise ConfigError(
            f"{path}: MLflow's database cannot have {bad[0]} in its path. Run dinorl in another folder, or give "
            "tracking.uri"
        )
    return f"{SQLITE}{path}{question}{options}"


def seen_from(folder: Path, uri: str) -> str:
    """Return a uri as kept in a folder: a database's path is relative, since both may move."""
    if not uri.startswith(SQLITE) or "?" in uri:
        return uri
    return SQLITE + os.path.relpath(uri.removeprefix(SQLITE), folder.absolute())


def found_from(folder: Path, uri: str) -> str:
    """Return the uri that :func:`seen_from` has kept.

    Raises:
        FileNotFoundError: its database is gone; connecting would make an empty one.
    """
    if not uri.startswith(SQLITE) or "?" in uri:
        return uri
    path = Path(os.path.normpath(folder.absolute() / uri.removeprefix(SQLITE)))
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such MLflow database", str(path))
    return f"{SQLITE}{path}"


def client(uri: str) -> MlflowClient:
    """Return a client; the first call imports mlflow, which is slow."""
    uri = whole(uri)
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
        hint = (
            "Start it, give another tracking.uri, or type tracking.required=false: then numbers are kept in the run "
            "folders, to be sent later"
        )
        raise unreachable(uri_of(settings), error, hint) from error


def analyze(uri: str) -> None:
    """Let SQLite count its tables; without, it searches the metrics of all runs for those of one.

    A database that is locked or read only stays as it is.
    """
    path = database_path(uri)
    if path is None or not path.exists():
        return
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=1.0)) as database:
        database.execute(f"PRAGMA analysis_limit={_COUNTED}")
        database.execute("ANALYZE")
        database.commit()


def database_path(uri: str) -> Path | None:
    """Return the file of an SQLite store; None of another store."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


def unreachable(uri: str, error: Exception, hint: str) -> ConfigError:
    """Return the error of a store that cannot be reached."""
    return ConfigError(f"MLflow at {hide(uri)} cannot be reached ({_first_line(error)})", hint=hint)


def store_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a store that is unreachable or damaged."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError  # no driver


def _first_line(error: Exception) -> str:
    """Return the first line of the innermost cause; HTTP clients wrap it many times."""
    innermost = error
    while innermost.__cause__ is not None or innermost.__context__ is not None:
        innermost = innermost.__cause__ or innermost.__context__  # type: ignore[assignment]
    return hide(next(iter(str(innermost).splitlines()), "") or type(innermost).__name__)


def _create_store(settings: TrackingConfig) -> str:
    """Create what is missing, under a lock against other commands; return the experiment's id."""
    uri = uri_of(settings)
    scheme, _, path = uri.partition(":///")
    if scheme != "sqlite":
        return experiment_id(client(uri), settings.experiment)
    database = Path(path.partition("?")[0])
    database.parent.mkdir(parents=True, exist_ok=True)
    with alone(uri):
        if not database.exists():
            make_tables(database)
        artifacts = (database.parent / ARTIFACTS).absolute().as_uri()
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")  # readers do not block writers
            _move_artifacts(connection, artifacts)
        return experiment_id(client(uri), settings.experiment, artifacts)


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Hold the lock of an embedded store; a server has none."""
    if not uri.startswith(SQLITE):
        yield
        return
    lock = Path(uri.removeprefix(SQLITE).partition("?")[0]).parent / LOCK
    lock.touch()
    with locked(lock, math.inf):
        yield


def _move_artifacts(database: sqlite3.Connection, artifacts: str) -> None:
    """Let a store that was copied or moved find its artifacts beside it: MLflow keeps absolute locations."""
    known = {row[0] for row in database.execute("SELECT artifact_location FROM experiments")}
    for old in known - {artifacts}:
        if old is None or not old.startswith("file:") or not old.endswith(f"/{ARTIFACTS}"):
            continue
        for table, column in _LOCATIONS:
            with contextlib.suppress(sqlite3.OperationalError):  # another version's tables
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR {column} LIKE ?",
                    (artifacts, len(old) + 1, old, f"{old}/%"),
                )


def make_tables(database: Path) -> None:
    """Create an empty store atomically: MLflow cannot start on partial tables."""
    building = database.with_name(f".{database.name}-building")
    for left in database.parent.glob(f"{building.name}*"):  # from a killed command
        left.unlink()
    with env_override({"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}):  # no open connection at the move
        client(f"sqlite:///{building}").search_experiments()
    os.replace(building, database)


def experiment_id(mlflow: MlflowClient, name: str, artifacts: str | None = None) -> str:
    """Return the id of an experiment; create it if missing.

    Raises:
        ConfigError: it was deleted, so it takes no more runs.
    """
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        from mlflow.exceptions import MlflowException

        try:
            return str(mlflow.create_experiment(name, artifact_location=artifacts))
        except MlflowException:  # another command created it
            found = mlflow.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"MLflow's experiment {name} was deleted",
            hint=f"Type mlflow experiments restore --experiment-id {found.experiment_id} with its --backend-store-uri, "
            "or give another tracking.experiment",
        )
    return str(found.experiment_id)
