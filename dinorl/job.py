"""One job of a plan: a composed config, run in the folder that Hydra made for it. Whatever happens is written down."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dinorl.config import build

STATUS_FILE, LOG_FILE = "status.json", "train.log"
log = logging.getLogger(__name__)

_DISK_FULL = (
    "the disk of {} is full; the bundles on it are whole. Make room and give the same command again: it goes on "
    "from the last of them (eval.keep is how many there are)"
)


def read_status(folder: Path) -> dict[str, Any] | None:
    """Return what a run folder says of its run, or None if it says nothing (yet)."""
    try:
        status: dict[str, Any] = json.loads((folder / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return status


def write_status(folder: Path, **status: Any) -> dict[str, Any]:
    """Write ``status.json``, as a whole or not at all, and return its content."""
    folder.mkdir(parents=True, exist_ok=True)
    building = folder / f".{STATUS_FILE}-{os.getpid()}"
    building.write_text(json.dumps(status, indent=2, default=str))
    os.replace(building, folder / STATUS_FILE)
    return status


def run(cfg: DictConfig) -> dict[str, Any]:
    """Train one stage; the task function of every launcher.

    Returns:
        The content of ``status.json``: ``status`` is DONE, FAILED (with ``error``) or INTERRUPTED.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    begun = time.time()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    write_status(folder, status="RUNNING", started=started, pid=os.getpid())
    handler = _log_to(folder / LOG_FILE)
    tracker: Any = None
    outcome: dict[str, Any] = {"status": "FAILED"}
    try:
        config = build(cfg)
        from dinorl.tracking import Tracker
        from dinorl.training.interrupt import Interruption
        from dinorl.training.stage import run_stage

        tracker = Tracker(config, folder)
        tracker.start()
        with Interruption() as interruption:
            result = run_stage(config, folder, tracker, interruption)
            outcome = {"status": "DONE", **asdict(result)}
        if interruption.signum:  # it came when the stage was at its end: that is kept, and what follows is not begun
            raise KeyboardInterrupt
        return outcome | {"folder": str(folder)}
    except KeyboardInterrupt as error:
        if outcome["status"] != "DONE":
            outcome = {"status": "INTERRUPTED", "error": f"interrupted ({str(error) or 'SIGINT'})"}
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        log.error("%s", error if full else traceback.format_exc())
        outcome["error"] = _DISK_FULL.format(folder) if full else f"{type(error).__name__}: {error}"
        return outcome | {"folder": str(folder)}
    finally:
        try:
            if tracker is not None:
                tracker.close(outcome["status"], outcome.get("gate", "none"))
        finally:  # closing waits for MLflow; a second Ctrl-C ends that, and what became of the stage is written still
            if tracker is not None:
                outcome["mlflow_run"] = tracker.run_id
            write_status(folder, **outcome, started=started, wall_s=round(time.time() - begun, 2))
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
