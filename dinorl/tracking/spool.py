"""The spool of a run: a file of entries for MLflow, written first and sent later.

``tracking.jsonl`` has a header (the run) and then one entry a line; ``tracking.sent`` counts the sent bytes. Sending is
idempotent: MLflow drops metrics equal in key, step, time and value. Paths are relative to the folder, which may move.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dinorl.config.secrets import hide
from dinorl.files.run_folder import TrackedFolder, locked, whole_file, write_text
from dinorl.tracking.models import log_model
from dinorl.tracking.store import FOLDER_TAG, client, experiment_id, found_from

log = logging.getLogger(__name__)

# Limits of MLflow's log_batch.
MAX_METRICS, MAX_PARAMS, MAX_VALUE = 1000, 100, 6000
PARENT_TAG = "mlflow.parentRunId"


class Spool:
    """The spool of one folder.

    Args:
        folder: of a run or a lineage.
    """

    def __init__(self, folder: Path) -> None:
        files = TrackedFolder(folder)
        self.path, self._sent_path = files.spool, files.sent
        try:
            state = json.loads(self._sent_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # missing or damaged: send all again
            state = {}
        self.sent: int = state.get("bytes", 0)
        self.run_id: str | None = state.get("run_id")
        self.failed: list[dict[str, Any]] = state.get("failed", [])  # artifacts and models that could not be sent
        self._client: Any = None

    def append(self, entries: Iterable[dict[str, Any]]) -> None:
        """Append entries, all or none.

        Raises:
            OSError: the disk is full or not writable.
        """
        before = self._whole()
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries)
        except OSError:
            if self.path.exists():
                os.truncate(self.path, before)  # no partial line
            raise

    def append_new(self, entries: Iterable[dict[str, Any]]) -> None:
        """Append the entries that are not there yet; see :meth:`append`."""
        known = set(self.path.read_text(encoding="utf-8").splitlines()) if self.path.exists() else set()
        self.append([entry for entry in entries if json.dumps(entry) not in known])

    def _whole(self) -> int:
        """Cut off an unfinished last line; return the file's size."""
        if not self.path.exists():
            return 0
        with self.path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    size = file.read().rfind(b"\n") + 1
                    file.truncate(size)
        return size

    def resume(self, header: Mapping[str, Any]) -> set[tuple[str, int]] | None:
        """Resume the spool of the same job; delete another job's.

        If the MLflow server or experiment has changed, the next send sends all to a new run there.

        Args:
            header: of the new run.

        Returns:
            (key, step) of every logged metric, or None if there is nothing to resume.
        """
        entries, whole = [], 0
        if self._whole():
            with self.path.open("rb") as file:
                for line in file:
                    try:
                        entries.append(json.loads(line))
                    except ValueError:  # damaged: log the rest again
                        break
                    whole += len(line)
        if not entries or entries[0].get("job") != header["job"]:
            self.path.unlink(missing_ok=True)
            self._forget()
            return None
        os.truncate(self.path, whole)
        place = {key: header[key] for key in ("uri", "experiment", "parent")}
        if {**entries[0], **place} != entries[0]:
            before = len(json.dumps(entries[0]))
            entries[0] |= place
            with whole_file(self.path) as building:
                building.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
            if self.run_id is not None:
                self._acknowledge(self.sent + len(json.dumps(entries[0])) - before)
        return {(key, entry["step"]) for entry in entries for key in entry.get("metrics", ())}

    def arrived(self) -> set[tuple[str, int]]:
        """Return (key, step) of every metric that MLflow has. MLflow's errors are raised."""
        with self.path.open(encoding="utf-8") as file:
            header = json.loads(file.readline())
        self._client = client(found_from(self.path.parent, header["uri"]))
        self.run_id = self.run_id or self._begun(header)
        if self.run_id is None:
            return set()
        keys = self._client.get_run(self.run_id).data.metrics
        return {(key, point.step) for key in keys for point in self._client.get_metric_history(self.run_id, key)}

    def _forget(self) -> None:
        """Forget what has been sent."""
        self._sent_path.unlink(missing_ok=True)
        self.sent, self.run_id, self._client, self.failed = 0, None, None, []

    def waiting(self) -> bool:
        """Return whether there are unsent entries."""
        return bool(self.failed) or self.path.exists() and self.path.stat().st_size > self.sent

    def send(self) -> None:
        """Send all unsent entries. MLflow's errors are raised; the next call resumes there."""
        try:
            self._send()
        except Exception:
            self._client = None  # connect again, to another run if this one was deleted
            raise

    def _send(self) -> None:
        with locked(self.path, math.inf), self.path.open("rb") as file:  # dinorl send may run too
            header = json.loads(file.readline())
            start = file.tell()
            if self._client is None:
                self._connect(header)
            if self.run_id is None:
                self.run_id = self._begun(header) or self._begin(header)
                self._acknowledge(0)
            if self.sent < start:
                self._log_params(header)
                self._acknowledge(start)
            end = self.sent
            file.seek(end)
            metrics: list[Any] = []
            for line in file:
                if not line.endswith(b"\n"):
                    break  # being written
                entry = json.loads(line)
                if "metrics" in entry and len(metrics) + len(entry["metrics"]) <= MAX_METRICS:
                    metrics += _metrics(entry)
                else:
                    self._log(metrics)
                    metrics = _metrics(entry) if "metrics" in entry else []
                    self._other(entry, header)
                end += len(line)
            self._log(metrics)
            self._acknowledge(end)

    def _connect(self, header: dict[str, Any]) -> None:
        """Connect; forget a run that was deleted or is elsewhere; try failed artifacts again."""
        self._client = client(found_from(self.path.parent, header["uri"]))
        if self.run_id is not None and not self._active(header):
            connected = self._client
            self._forget()
            self._client = connected
        failed, self.failed = self.failed, []
        for entry in failed:
            self._log_files(entry)

    def _active(self, header: dict[str, Any]) -> bool:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

        try:
            run = self._client.get_run(self.run_id).info
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return False
            raise
        experiment = experiment_id(self._client, header["experiment"])
        return bool(run.lifecycle_stage == "active" and run.experiment_id == experiment)

    def _begun(self, header: dict[str, Any]) -> str | None:
        """Return the run if it exists: only the server's answer may be lost."""
        experiment = experiment_id(self._client, header["experiment"])
        for run in self._client.search_runs([experiment], f"attributes.start_time = {header['time']}"):
            if run.data.tags.get(FOLDER_TAG) == header["tags"][FOLDER_TAG]:
                return str(run.info.run_id)
        return None

    def _begin(self, header: dict[str, Any]) -> str:
        tags = dict(header["tags"])
        if header["parent"] is not None:
            tags[PARENT_TAG] = self._parent(header)
        experiment = experiment_id(self._client, header["experiment"])
        run = self._client.create_run(experiment, start_time=header["time"], tags=tags, run_name=header["name"])
        return str(run.info.run_id)

    def _parent(self, header: dict[str, Any]) -> str | None:
        """Return the lineage's run; create it if it is missing or deleted."""
        lineage = Spool(self.path.parent / header["parent"])
        lineage.send()
        return lineage.run_id

    def _log_params(self, header: dict[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)[:MAX_VALUE]) for key, value in header["params"].items()]
        for i in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self.run_id, params=params[i : i + MAX_PARAMS])

    def _log(self, metrics: list[Any]) -> None:
        if metrics:
            self._client.log_batch(self.run_id, metrics=metrics)

    def _other(self, entry: dict[str, Any], header: dict[str, Any]) -> None:
        if "again" in entry:
            self._client.update_run(self.run_id, status="RUNNING")
            if header["parent"] is not None:  # may be another since
                self._client.set_tag(self.run_id, PARENT_TAG, self._parent(header))
        if "tags" in entry:
            for key, value in entry["tags"].items():
                self._client.set_tag(self.run_id, key, value)
        elif "artifact" in entry or "model" in entry:
            self._log_files(entry)
        elif "end" in entry:
            self._client.set_terminated(self.run_id, entry["end"], entry["time"])

    def _log_files(self, entry: dict[str, Any]) -> None:
        """Send a file, folder or model; one that fails does not hold up what comes after it."""
        path = self.path.parent / (entry["model"] if "model" in entry else entry["artifact"])
        try:
            if "model" in entry:
                log_model(self._client, str(self.run_id), path, entry["about"])
            elif path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), entry["folder"])
            elif path.exists():
                self._client.log_artifact(self.run_id, str(path), entry["folder"])
        except Exception as error:
            log.warning("tracking: %s is not sent: %s", path, hide(f"{type(error).__name__}: {error}"))
            self.failed.append(entry)

    def _acknowledge(self, position: int) -> None:
        self.sent = position
        state = {"bytes": position, "run_id": self.run_id}
        write_text(self._sent_path, json.dumps(state | ({"failed": self.failed} if self.failed else {})))


def _metrics(entry: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(key, value, entry["time"], entry["step"]) for key, value in entry["metrics"].items()]
