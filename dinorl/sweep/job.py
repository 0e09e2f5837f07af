"""One job of a plan: a composed config, run in the folder that Hydra made for it. Whatever happens is written down."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import time
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dinorl.config import build
from dinorl.files.run_folder import RunFolder, locked, read_status, write_status

log = logging.getLogger(__name__)
# How long a job waits for another process to leave its folder, s.
PATIENCE = 10.0

_DISK_FULL = (
    "the disk of {} is full; the bundles on it are whole. Make room and give the same command again: it goes on "
    "from the last of them (eval.keep is how many there are)"
)


def busy(folder: Path) -> str:
    """Return what is to be said of a run folder that another process holds."""
    pid = (read_status(folder) or {}).get("pid", "?")
    return f"process {pid} trains in {folder} still; end it, or wait for it"


def run(cfg: DictConfig) -> dict[str, Any]:
    """Train one stage; the task function of every launcher.

    Returns:
        The content of ``status.json``: ``status`` is DONE, FAILED (with ``error``) or INTERRUPTED.

    Raises:
        RuntimeError: another process trains in the folder.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder, PATIENCE))  # a worker may outlive the command that started it
        except BlockingIOError as error:
            raise RuntimeError(busy(folder)) from error
        return _run(cfg, folder)


def _run(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    begun = time.time()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    own = {"started": started, "host": platform.node(), "pid": os.getpid()}
    handler = _log_to(RunFolder(folder).log)
    tracker: Any = None
    outcome: dict[str, Any] = {"status": "FAILED", "gate": "none", "error": None}
    try:
        write_status(folder, status="RUNNING", **own)
        config = build(cfg)
        from dinorl.tracking.tracker import Tracker
        from dinorl.training import resume
        from dinorl.training.interrupt import Interruption
        from dinorl.training.stage import run_stage

        tracker = Tracker(config, folder)
        tracker.start()
        with Interruption() as interruption:
            result = run_stage(config, folder, [tracker], interruption)
            # In this order: until the status says DONE the stage can be gone on with, whatever ends the process.
            tracker.end("DONE", result.gate)
            outcome = write_status(folder, **outcome | {"status": "DONE", **asdict(result)}, **own)
            with contextlib.suppress(OSError):
                resume.finish(folder)
        if interruption.signum:  # it came when the stage was at its end: that is kept, and what follows is not begun
            raise KeyboardInterrupt
        return outcome | {"folder": str(folder)}
    except KeyboardInterrupt as error:
        if outcome["status"] != "DONE":
            outcome |= {"status": "INTERRUPTED", "error": f"interrupted ({str(error) or 'SIGINT'})"}
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        log.error("%s", error if full else traceback.format_exc())
        outcome["error"] = _DISK_FULL.format(folder) if full else f"{type(error).__name__}: {error}"
        return outcome | {"folder": str(folder)}
    finally:
        try:
            if tracker is not None:
                tracker.close(outcome["status"], outcome["gate"])
        finally:  # closing waits for MLflow; a second Ctrl-C ends that, and what became of the stage is written still
            if tracker is not None:
                outcome["mlflow_run"] = tracker.run_id
            write_status(folder, **outcome | own, wall_s=round(time.time() - begun, 2))
            logging.getLogger().removeHandler(handler)
            handler.close()


def _log_to(path: Path) -> logging.Handler:
    """Send what is logged to the run's own file; the terminal belongs to the progress bar."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler
