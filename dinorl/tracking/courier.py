"""Carries a job to wherever it runs, and what it leaves to whoever needs it."""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path

from dinorl.config import Config
from dinorl.files.run_folder import BundleFolder, RunFolder, TrackedFolder
from dinorl.tracking.depot import Depot
from dinorl.tracking.listener import Listener
from dinorl.tracking.store import uri_of

log = logging.getLogger(__name__)
_START = "start-"  # of keys
# Written by each job itself.
_OWN = (RunFolder.status.name, RunFolder.log.name)
CLOSE_TIMEOUT = 60.0  # s, for the last files


class Courier(Listener):
    """Sends a job's run folder after every bundle, from a thread.

    Args:
        cfg: the composed config; ``cfg.tracking.bundles`` is the sweep's depot.
        folder: the run folder.
    """

    def __init__(self, cfg: Config, folder: Path) -> None:
        self._cfg, self._folder = cfg, folder
        assert cfg.tracking.job is not None
        self._depot = self._at(cfg.tracking.job)
        self._steps = 0
        self._due, self._stop = threading.Event(), threading.Event()
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)

    def _at(self, key: str) -> Depot:
        tracking = self._cfg.tracking
        assert tracking.bundles is not None
        return Depot(tracking.bundles, key, uri_of(tracking))

    def fetch(self) -> None:
        """Fetch what the job needs: its lineage's MLflow run, its parent's bundle, and its own newest bundle.

        Raises:
            OSError: the parent's bundle cannot be had.
        """
        tracking = self._cfg.tracking
        if tracking.parent is not None and not TrackedFolder(tracking.parent).spool.exists():
            self._at(lineage_key(tracking.parent)).fetch(Path(tracking.parent))
        if tracking.start is not None and self._cfg.warm_start is not None:
            start, best = Path(self._cfg.warm_start), f"{RunFolder.best.name}/"
            whole = tracking.start.startswith(_START)
            arrived = self._at(tracking.start).fetch(start, lambda name: whole or name.startswith(best))
            if not arrived and not start.exists():
                raise FileNotFoundError(f"{start}: the bundle that this job starts from has not arrived")
        reached, newest = self._depot.steps(), _newest(self._folder)
        if reached is not None and (reached > newest or not TrackedFolder(self._folder).spool.exists()):
            self._depot.fetch(self._folder, lambda name: name not in _OWN)

    def start(self) -> None:
        """Send the beginning, so that nobody begins another MLflow run; then send after every bundle."""
        self._send()
        self._thread.start()

    def saved(self, steps: int) -> None:
        """Send the folder soon."""
        self._steps = steps
        self._due.set()

    def close(self) -> None:
        """Send the folder a last time."""
        self._stop.set()
        self._due.set()
        self._thread.join(CLOSE_TIMEOUT)

    def _work(self) -> None:
        last = False
        while not last:
            self._due.wait()
            self._due.clear()
            last = self._stop.is_set()
            self._send()

    def _send(self) -> None:
        try:
            self._depot.send(self._folder, self._steps)
        except FileNotFoundError:  # a bundle was replaced; its successor follows
            log.info("%s changed while it was sent", self._folder)
        except Exception as error:
            log.warning("%s cannot be sent: %s: %s", self._folder, type(error).__name__, error)


def start_key(bundle: Path) -> str:
    """Return the key of a bundle that a sweep starts from."""
    return f"{_START}{hashlib.sha256(str(bundle).encode()).hexdigest()}"


def lineage_key(folder: str | Path) -> str:
    """Return the key of a lineage's folder."""
    return f"lineage-{Path(folder).name}"


def _newest(folder: Path) -> int:
    """Return the steps of a folder's newest bundle that can be resumed; -1 if there is none."""
    found = RunFolder(folder).bundles.glob("[0-9]*")
    return max((int(path.name) for path in found if BundleFolder(path).state.exists()), default=-1)


def send_lineage(depot: str, folder: Path, tracking: str) -> None:
    """Send the folder of a lineage, with its MLflow run.

    Args:
        depot: of the sweep.
        folder: of the lineage.
        tracking: uri of the MLflow server.
    """
    Depot(depot, lineage_key(folder), tracking).send(folder, only=lambda name: "/" not in name)


def send_bundle(depot: str, bundle: Path, tracking: str) -> None:
    """Send a bundle that a sweep starts from; see :func:`send_lineage`."""
    Depot(depot, start_key(bundle), tracking).send(bundle)


def fetch_run(depot: str, key: str, folder: Path, tracking: str) -> bool:
    """Fetch what a job left, if it has sent it; see :func:`send_lineage`."""
    return Depot(depot, key, tracking).fetch(folder)
