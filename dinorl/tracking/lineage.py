"""The MLflow run of a lineage: the parent of its stages' runs.

It has a spool of its own in the lineage's folder, so that a store that is away when the lineage begins or ends loses
nothing, and whoever sends a stage's numbers first can begin its parent.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dinorl.config import TrackingConfig
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import FOLDER_TAG, uri_of

log = logging.getLogger(__name__)

# How long anybody waits for the store here, s. What has not arrived by then waits in the spool.
TIMEOUT, HURRIED_TIMEOUT = 5.0, 2.0


def open_lineages(settings: TrackingConfig, lineages: Mapping[Path, Mapping[str, str]]) -> None:
    """Begin the runs of lineages, or go on with them.

    Args:
        settings: of tracking.
        lineages: the tags of each one's run, by its folder.
    """
    spools = []
    for folder, tags in lineages.items():
        with contextlib.suppress(OSError):  # what is in the way of the folder is told of when its job starts
            folder.mkdir(parents=True, exist_ok=True)
            spool = Spool(folder)
            header = {
                "uri": uri_of(settings), "experiment": settings.experiment, "tags": {**tags, FOLDER_TAG: str(folder)},
                "params": {}, "name": folder.name, "time": _now(), "parent": None, "job": None,
            }  # fmt: skip
            goes_on = spool.take_up(header) is not None
            spool.append([{"again": header["time"], "tags": header["tags"]} if goes_on else header])
            spools.append(spool)
    _send(spools, TIMEOUT)


def close_runs(ends: Mapping[Path, tuple[str, Mapping[str, str]]], patience: float = TIMEOUT) -> list[Path]:
    """End the runs of folders, and send all that waits there.

    Args:
        ends: by folder, the MLflow status, ``FINISHED``, ``FAILED`` or ``KILLED``, and tags. Of a folder without a run
            nothing is said; an empty status ends nothing.
        patience: how long to wait, s.

    Returns:
        The folders in which something waits still.
    """
    spools = {}
    for folder, (status, tags) in ends.items():
        with contextlib.suppress(OSError):
            spool = Spool(folder)
            if not spool.path.exists():
                continue
            if status:
                spool.append([{"tags": dict(tags)}, {"end": status, "time": _now()}])
            spools[folder] = spool
    _send([spool for spool in spools.values() if spool.waiting()], patience)
    return [folder for folder, spool in spools.items() if spool.waiting()]


def _send(spools: Sequence[Spool], patience: float) -> None:
    """Send what waits, one after the other, and wait so long in all: a server that hangs does so for each."""

    def send() -> None:
        for spool in spools:
            try:
                spool.send()
            except Exception as error:  # whatever it is, it is tried again with whatever is sent next
                log.warning("tracking: %s: %s", type(error).__name__, error)

    thread = threading.Thread(target=send, name="lineages", daemon=True)
    thread.start()
    thread.join(patience)


def _now() -> int:
    return round(time.time() * 1000)
