"""Sends a stage's metrics to MLflow in a thread and shows them in the terminal."""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import shlex
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinorl.config import Config, ConfigError
from dinorl.config.identity import identity
from dinorl.config.secrets import hide
from dinorl.files.provenance import git_sha
from dinorl.tracking.describe import NOTE, acting, own_files, source_tags
from dinorl.tracking.listener import Listener, Progress
from dinorl.tracking.progress import StageProgress
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import FOLDER_TAG, seen_from, store_errors, uri_of
from dinorl.tracking.system import SystemMetrics

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 30.0  # s, for the last sends
HURRIED_TIMEOUT = 2.0  # after an interruption
_MLFLOW_STATUS = {"DONE": "FINISHED", "INTERRUPTED": "KILLED", "PRUNED": "KILLED"}


class Tracker(Listener):
    """Tracks one stage.

    Calls only queue. A thread writes the queue to the spool and sends it every ``tracking.log_every`` seconds. Unsent
    entries stay in the run folder.

    Args:
        cfg: the composed config.
        run_dir: the run folder.
        travels: another machine may have sent more of the run than the folder knows.
        chosen: options of config groups that become tags, such as the recipe.
    """

    def __init__(
        self, cfg: Config, run_dir: Path, travels: bool = False, chosen: Mapping[str, str] | None = None
    ) -> None:
        stage = cfg.stage_label
        self._display = StageProgress(f"{cfg.species.title} {cfg.stage.index}/3 {stage} ({cfg.algo.name})")
        self._folder = Path(cfg.tracking.parent or run_dir)  # of the spool
        self._settings = cfg.tracking
        self._step = 0  # the latest
        self._spool = Spool(run_dir)
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._unwritten: list[dict[str, Any]] = []
        self._spooling = threading.Lock()
        self._stop = threading.Event()
        self._complained = False
        self._ended: str | None = None  # the final status
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        job = identity(cfg)
        tags = {
            "species": cfg.species.name, "stage": cfg.stage.name, "stage_index": str(cfg.stage.index),
            "algo": cfg.algo.name, "seed": str(cfg.seed), "lineage": cfg.tracking.lineage or "",
            "lineages": cfg.tracking.lineages or "", "sweep": cfg.tracking.sweep or "", "git_sha": git_sha() or "",
            "status": "RUNNING", "gate": "none", "job": job, FOLDER_TAG: str(run_dir.absolute()),
            **(chosen or {}), **source_tags(),
        }  # fmt: skip
        self._header = {
            "uri": seen_from(run_dir, uri_of(cfg.tracking)), "experiment": cfg.tracking.experiment, "tags": tags,
            "params": acting(cfg),
            "name": f"{cfg.tracking.lineage or cfg.species.name}/{cfg.stage.index}-{stage}", "time": _now(),
            "parent": cfg.tracking.parent and os.path.relpath(cfg.tracking.parent, run_dir), "job": job,
        }  # fmt: skip
        logged = self._spool.resume(self._header)
        self._resumed = logged is not None
        self._logged = logged or set()  # before an interruption
        if travels and self._resumed:
            try:
                self._logged |= self._spool.arrived()
            except store_errors() as error:
                log.warning("tracking: %s: %s", type(error).__name__, hide(str(error)))

    @property
    def run_id(self) -> str | None:
        """The MLflow run, once it has begun."""
        return self._spool.run_id

    def start(self) -> None:
        """Start sending. The first send creates or resumes the run."""
        self._queue.put({"again": _now(), "tags": self._header["tags"]} if self._resumed else self._header)
        self._thread.start()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue metrics at an environment step, except NaN and infinity, which MLflow cannot plot."""
        self._step = max(self._step, step)
        finite = {
            key: float(value)
            for key, value in metrics.items()
            if math.isfinite(value) and (key, step) not in self._logged
        }
        if finite:
            self._queue.put({"metrics": finite, "step": step, "time": _now()})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Queue a file or folder; it must not change before :meth:`close`."""
        self._queue.put({"artifact": os.path.relpath(path, self._spool.path.parent), "folder": folder})

    def log_model(self, path: Path, model: Mapping[str, Any]) -> None:
        """Queue a bundle as a model, unless ``tracking.models`` is off; it must not change before :meth:`close`."""
        if self._settings.models:
            self._queue.put({"model": os.path.relpath(path, self._spool.path.parent), "about": dict(model)})

    def note(self, text: str) -> None:
        """Queue the run's description."""
        self.set_tags({NOTE: text})

    def flush(self) -> None:
        """Write the queue to the spool now."""
        with self._spooling:
            while True:
                try:
                    self._unwritten.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            self._spool.append(self._unwritten)
            self._unwritten.clear()  # keep if the disk is full

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queue tags."""
        self._queue.put({"tags": dict(tags)})

    def progress(self, progress: Progress) -> None:
        """Show the progress."""
        self._display.update(progress)

    def say(self, text: str) -> None:
        """Print a line, and log it."""
        log.info("%s", text)
        self._display.say(text)

    def end(self, status: str, gate: str) -> None:
        """Write the end of the run to the spool, with its log and config.

        Args:
            status: DONE, FAILED, PRUNED or INTERRUPTED.
            gate: the stage's verdict.
        """
        self.set_tags({"status": status, "gate": gate})
        self._queue.put({"end": _MLFLOW_STATUS.get(status, "FAILED"), "time": _now()})
        for entry in own_files():
            self._queue.put(entry)
        self.flush()
        self._ended = status

    def close(self, status: str, gate: str) -> None:
        """End the run if it has not ended; wait for unsent entries until a timeout.

        Args:
            status, gate: see :meth:`end`.
        """
        try:
            if self._ended != status:
                self.end(status, gate)
        except OSError as error:  # disk full; retried below
            log.warning("tracking: %s", error)
        self._stop.set()
        self._thread.join(HURRIED_TIMEOUT if status == "INTERRUPTED" else CLOSE_TIMEOUT)
        if self._spool.waiting():
            self._display.say(
                f"some of the run has not reached MLflow; to send it, type dinorl send {shlex.quote(str(self._folder))}"
            )
        self._display.close()

    def _work(self) -> None:
        system = self._system()
        while not self._stop.wait(self._settings.log_every):
            if system is not None and (metrics := system.read()):
                self.log_metrics(metrics, self._step)
            self._send()
        self._send()

    def _system(self) -> SystemMetrics | None:
        """Return what reads system metrics, if that is wanted and possible."""
        if self._settings.system_metrics:
            try:
                return SystemMetrics()
            except Exception as error:  # another machine may lack psutil
                log.warning("tracking: no system metrics: %s: %s", type(error).__name__, error)
        return None

    def _send(self) -> None:
        try:
            self.flush()
            if self._spool.waiting():
                self._spool.send()
        except Exception as error:  # sent later
            log.warning("tracking: %s: %s", type(error).__name__, hide(str(error)))
            if not self._complained:
                self._complained = True
                full = isinstance(error, OSError) and error.errno == errno.ENOSPC
                what = "the disk is full" if full else f"MLflow cannot be reached ({type(error).__name__})"
                if isinstance(error, ConfigError):
                    what = error.problem
                where = "in memory" if full else "in the run folder"
                self._display.say(f"{what}; training goes on, numbers are kept {where}")


def _now() -> int:
    """Return MLflow's timestamp, ms."""
    return round(time.time() * 1000)
