"""The MLflow run of a lineage, the parent of its stages' runs.

Its spool is in the lineage's folder, so an unreachable store loses nothing and a stage can create its parent run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dinorl.config import TrackingConfig
from dinorl.config.secrets import hide
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import FOLDER_TAG, seen_from, uri_of

log = logging.getLogger(__name__)

TIMEOUT, HURRIED_TIMEOUT = 5.0, 2.0  # s, for the store


def open_lineages(
    settings: TrackingConfig,
    lineages: Mapping[Path, Mapping[str, str]],
    above: Path | None = None,
    params: Mapping[Path, Mapping[str, str]] | None = None,
) -> None:
    """Begin or resume the runs of lineages.

    Args:
        settings: of tracking.
        lineages: tags of each run, by the lineage's folder.
        above: folder of the search that they belong to; its own run is among them.
        params: parameters of runs, by the lineage's folder.
    """
    spools = []
    for folder, tags in lineages.items():
        with contextlib.suppress(OSError):  # its job reports the error
            folder.mkdir(parents=True, exist_ok=True)
            spool = Spool(folder)
            header = {
                "uri": seen_from(folder, uri_of(settings)), "experiment": settings.experiment,
                "tags": {**tags, FOLDER_TAG: str(folder)}, "params": dict((params or {}).get(folder, {})),
                "name": folder.name, "time": _now(),
                "parent": os.path.relpath(above, folder) if above and above != folder else None, "job": None,
            }  # fmt: skip
            resumed = spool.resume(header) is not None
            spool.append([{"again": header["time"], "tags": header["tags"]} if resumed else header])
            spools.append(spool)
    _send(spools, TIMEOUT)


def close_runs(ends: Mapping[Path, tuple[str, Mapping[str, str]]], patience: float = TIMEOUT) -> list[Path]:
    """End the runs of folders, and send their spools.

    Args:
        ends: by folder, the MLflow status (``FINISHED``, ``FAILED``, ``KILLED``; empty: do not end it) and tags.
            Folders without a run are skipped.
        patience: timeout, s.

    Returns:
        The folders with unsent entries.
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
    """Send spools one after the other; ``patience`` is the total timeout, s."""

    def send() -> None:
        for spool in spools:
            try:
                spool.send()
            except Exception as error:  # the next send tries again
                log.warning("tracking: %s: %s", type(error).__name__, hide(str(error)))

    thread = threading.Thread(target=send, name="lineages", daemon=True)
    thread.start()
    thread.join(patience)


def _now() -> int:
    return round(time.time() * 1000)
