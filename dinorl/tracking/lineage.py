"""The MLflow run of a lineage: the parent of its stages' runs.

It has a spool of its own in the lineage's folder, so that a store that is away when the lineage begins or ends loses
nothing, and whoever sends a stage's numbers first can begin its parent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from dinorl.config import TrackingConfig
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import FOLDER_TAG, uri_of

log = logging.getLogger(__name__)

# How long anybody waits for the store here, s. What has not arrived by then waits in the spool.
TIMEOUT = 5.0


def open_lineage(settings: TrackingConfig, folder: Path, tags: Mapping[str, str]) -> None:
    """Begin the run of a lineage, or go on with it.

    Args:
        settings: of tracking.
        folder: of the lineage.
        tags: of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spool = Spool(folder)
    header = {
        "uri": uri_of(settings), "experiment": settings.experiment, "tags": {**tags, FOLDER_TAG: str(folder)},
        "params": {}, "name": folder.name, "time": _now(), "parent": None,
    }  # fmt: skip
    goes_on = spool.take_up(header) is not None
    spool.append([{"again": header["time"], "tags": header["tags"]} if goes_on else header])
    _send(spool)


def close_lineage(folder: Path, status: str, tags: Mapping[str, str]) -> None:
    """End the run of a lineage with an MLflow status, ``FINISHED``, ``FAILED`` or ``KILLED``."""
    spool = Spool(folder)
    spool.append([{"tags": dict(tags)}, {"end": status, "time": _now()}])
    _send(spool)


def _send(spool: Spool) -> None:
    def send() -> None:
        try:
            spool.send()
        except Exception as error:  # whatever it is, it is tried again with whatever is sent next
            log.warning("tracking: %s: %s", type(error).__name__, error)

    thread = threading.Thread(target=send, name="lineage", daemon=True)
    thread.start()
    thread.join(TIMEOUT)


def _now() -> int:
    return round(time.time() * 1000)
