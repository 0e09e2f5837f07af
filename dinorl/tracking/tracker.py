"""Where a stage's numbers go: MLflow, off the training thread, and the terminal."""

from __future__ import annotations

import errno
import logging
import math
import queue
import shlex
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinorl.config import Config, flatten
from dinorl.config.identity import identity
from dinorl.files.provenance import git_sha
from dinorl.tracking.progress import StageProgress
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import FOLDER_TAG, uri_of

log = logging.getLogger(__name__)

# How long the end of a stage waits for what is still to be sent, s. The rest stays in the spool.
CLOSE_TIMEOUT = 30.0
HURRIED_TIMEOUT = 2.0  # of one that was interrupted: whoever did so may not wait long
_MLFLOW_STATUS = {"DONE": "FINISHED", "INTERRUPTED": "KILLED"}


class NullTracker:
    """Tracks nothing: for tests and notebooks."""

    run_id: str | None = None

    def __init__(self) -> None:
        self.seconds = 0.0

    def start(self) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Do nothing."""

    def keep(self) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def progress(self, step: int, total: int, rate: float, ret: float, length: float, gate: str) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def end(self, status: str, gate: str) -> None:
        """Do nothing."""

    def close(self, status: str, gate: str) -> None:
        """Do nothing."""


class Tracker(NullTracker):
    """Tracks one stage.

    Calls only queue; a thread of its own spools what is queued and sends it every ``tracking.log_every`` seconds. What
    cannot be sent is sent later, or waits in the run folder.

    Args:
        cfg: the composed config.
        run_dir: the run folder.

    Attributes:
        seconds: time that the callers' thread has spent in here.
    """

    def __init__(self, cfg: Config, run_dir: Path) -> None:
        super().__init__()
        stage = cfg.species.event.name if cfg.stage.name == "behavior" else cfg.stage.name
        self._display = StageProgress(f"{cfg.species.title} {cfg.stage.index}/3 {stage} ({cfg.algo.name})")
        self._folder = Path(cfg.tracking.parent or run_dir)  # with all that waits to be sent
        self._every = cfg.tracking.log_every
        self._spool = Spool(run_dir)
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._unwritten: list[dict[str, Any]] = []
        self._spooling = threading.Lock()
        self._stop = threading.Event()
        self._complained = False
        self._ended: str | None = None  # the status that the run was ended with
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        tags = {
            "species": cfg.species.name, "stage": cfg.stage.name, "stage_index": str(cfg.stage.index),
            "algo": cfg.algo.name, "seed": str(cfg.seed), "lineage": cfg.tracking.lineage or "",
            "lineages": cfg.tracking.lineages or "", "sweep": cfg.tracking.sweep or "", "git_sha": git_sha() or "",
            "status": "RUNNING", "gate": "none", FOLDER_TAG: str(run_dir.absolute()),
        }  # fmt: skip
        self._header = {
            "uri": uri_of(cfg.tracking), "experiment": cfg.tracking.experiment, "tags": tags, "params": flatten(cfg),
            "name": f"{cfg.tracking.lineage or cfg.species.name}/{cfg.stage.index}-{stage}", "time": _now(),
            "parent": cfg.tracking.parent, "job": identity(cfg),
        }  # fmt: skip
        told = self._spool.take_up(self._header)
        self._goes_on = told is not None
        self._told = told or set()  # before the stage was interrupted: told once is enough

    @property
    def run_id(self) -> str | None:  # type: ignore[override]
        """The MLflow run, once it has begun."""
        return self._spool.run_id

    def start(self) -> None:
        """Begin to send; the run itself is begun by the first sending. One that was interrupted is gone on with."""
        self._queue.put({"again": _now(), "tags": self._header["tags"]} if self._goes_on else self._header)
        self._thread.start()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue metrics of an environment step; what is not finite is left out, as MLflow's plots cannot show it."""
        begun = time.perf_counter()
        finite = {
            key: float(value)
            for key, value in metrics.items()
            if math.isfinite(value) and (key, step) not in self._told
        }
        if finite:
            self._queue.put({"metrics": finite, "step": step, "time": _now()})
        self.seconds += time.perf_counter() - begun

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Queue a file or folder; it must stay as it is until the tracker is closed."""
        self._queue.put({"artifact": str(path.absolute()), "folder": folder})

    def keep(self) -> None:
        """Write down everything that is queued, now: it is not lost, whatever happens to the process."""
        with self._spooling:
            while True:
                try:
                    self._unwritten.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            self._spool.append(self._unwritten)
            self._unwritten.clear()  # not before: a full disk may have room again

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queue tags."""
        self._queue.put({"tags": dict(tags)})

    def progress(self, step: int, total: int, rate: float, ret: float, length: float, gate: str) -> None:
        """Show how far the stage is; see :meth:`StageProgress.update`."""
        begun = time.perf_counter()
        self._display.update(step, total, rate, ret, length, gate)
        self.seconds += time.perf_counter() - begun

    def say(self, text: str) -> None:
        """Tell the person, and the log."""
        log.info("%s", text)
        self._display.say(text)

    def end(self, status: str, gate: str) -> None:
        """Write down how the run ends; nothing of it can be lost then.

        Args:
            status: DONE, FAILED or INTERRUPTED.
            gate: the stage's verdict.
        """
        self.set_tags({"status": status, "gate": gate})
        self._queue.put({"end": _MLFLOW_STATUS.get(status, "FAILED"), "time": _now()})
        self.keep()
        self._ended = status

    def close(self, status: str, gate: str) -> None:
        """End the run, if that has not been done, and wait a while for what is still to be sent.

        Args:
            status, gate: see :meth:`end`.
        """
        try:
            if self._ended != status:
                self.end(status, gate)
        except OSError as error:  # a full disk; it is tried once more below
            log.warning("tracking: %s", error)
        self._stop.set()
        self._thread.join(HURRIED_TIMEOUT if status == "INTERRUPTED" else CLOSE_TIMEOUT)
        self._display.close()
        if self._spool.waiting():
            self._display.say(
                f"MLflow has not been told everything; send the rest with dinorl send {shlex.quote(str(self._folder))}"
            )

    def _work(self) -> None:
        while not self._stop.wait(self._every):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        try:
            self.keep()
            if self._spool.waiting():
                self._spool.send()
        except Exception as error:  # whatever it is, training goes on, and it is tried again
            log.warning("tracking: %s: %s", type(error).__name__, error)
            if not self._complained:
                self._complained = True
                full = isinstance(error, OSError) and error.errno == errno.ENOSPC
                what = "the disk is full" if full else f"MLflow cannot be reached ({type(error).__name__})"
                where = "in memory" if full else "in the run folder"
                self._display.say(f"{what}; training goes on, numbers are kept {where}")


def _now() -> int:
    """Return the time in ms, as MLflow has it."""
    return round(time.time() * 1000)
