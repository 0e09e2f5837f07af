"""Layout of a sweep's folders: file names, their writers, atomic writes and locks.

outputs/<sweep>/                         SweepFiles
    <lineage>/                           TrackedFolder
        <index>-<stage>/                 RunFolder
            bundle/<steps>/, bundle/best/    BundleFolder
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

log = logging.getLogger(__name__)
POLL = 0.05  # s, between lock attempts


class Entry:
    """Descriptor of a file or folder; on instances it returns the path.

    Args:
        name: relative to the folder.
        writer: the module that writes it.
        content: description.
    """

    def __init__(self, name: str, writer: str, content: str) -> None:
        self.name, self.writer, self.content = name, writer, content

    @overload
    def __get__(self, folder: None, kind: type) -> Entry: ...

    @overload
    def __get__(self, folder: Folder, kind: type) -> Path: ...

    def __get__(self, folder: Folder | None, kind: type) -> Entry | Path:
        return self if folder is None else folder.path / self.name


class Folder:
    """A folder whose files are known by name.

    Args:
        path: of the folder; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def entries(cls) -> dict[str, Entry]:
        """Return the folder's entries by attribute name."""
        inherited = {key: value for base in reversed(cls.__mro__) for key, value in vars(base).items()}
        return {key: value for key, value in inherited.items() if isinstance(value, Entry)}


class SweepFiles(Folder):
    """A sweep's own files, beside its lineages."""

    plan = Entry("plan.json", "sweep/folder.py", "key of the job that each run folder belongs to")
    depot = Entry("depot.json", "sweep/folder.py", "where bundles travel, if machines share no folder")
    report = Entry("report.html", "reports/page.py", "the page of dinorl report")


class TrackedFolder(Folder):
    """A folder with an MLflow run, of a lineage, a stage or a search."""

    spool = Entry("tracking.jsonl", "tracking/spool.py", "all that MLflow is sent, an entry a line")
    sent = Entry("tracking.sent", "tracking/spool.py", "how many bytes of that have arrived, and the MLflow run")


class LineageFiles(TrackedFolder):
    """A lineage's own files, beside its stages."""

    stages = Entry("stages.json", "sweep/parents.py", "a row each stage, as MLflow shows tables")


class SearchFiles(TrackedFolder):
    """A search's own files, beside its trials' lineages."""

    search = Entry("search.json", "search/journal.py", "options, keys and every trial's values")
    journal = Entry("journal.jsonl", "search/journal.py", "every report of a trial with its decision, one a line")
    trials = Entry("trials.csv", "search/report.py", "a row each trial: values, score, steps, outcome")
    importance = Entry("importance.csv", "search/report.py", "a row each key: its importance, with an interval")
    scores = Entry("scores.png", "search/plots.py", "scores over environment steps, with the prunings")
    keys = Entry("keys.png", "search/plots.py", "the score against each key")


class RunFolder(TrackedFolder):
    """The folder of one stage run."""

    status = Entry("status.json", "sweep/job.py", "RUNNING | DONE | FAILED | PRUNED | INTERRUPTED, gate, error")
    log = Entry("train.log", "sweep/job.py", "the run's log, with the traceback if it failed")
    hydra = Entry(".hydra", "Hydra", "the composed config, Hydra's own, and the overrides")
    bundles = Entry("bundle", "bundle/write.py", "checkpoints by their step number")
    best = Entry("bundle/best", "bundle/write.py", "the best evaluated checkpoint")
    replay = Entry("replay", "learners/replay.py", "SAC's replay buffer in segments, until the stage is done")
    faults = Entry("faults", "training/faults.py", "simulations that broke down")
    eval_csv = Entry("eval.csv", "training/evaluations.py", "every evaluation, a row each")
    null_policies = Entry("null_policies.json", "training/stage.py", "metrics of doing nothing and of random actions")
    video = Entry("video.mp4", "bundle/film.py", "the animal, at real speed")
    evaluation = Entry("evaluation.json", "reports/results.py", "the best checkpoint's metrics on unseen seeds")


class BundleFolder(Folder):
    """One checkpoint."""

    policy = Entry("policy.npz", "bundle/write.py", "weights of the policy that is evaluated")
    optimizer = Entry("optimizer.npz", "bundle/write.py", "optimizer state")
    normalization = Entry("normalization.npz", "bundle/write.py", "observation and reward statistics")
    random = Entry("random.npz", "bundle/write.py", "random states")
    meta = Entry("meta.json", "bundle/write.py", "counters, evaluation, versions, git sha, hash of the MJCF")
    config = Entry("config.yaml", "bundle/write.py", "the composed config")
    state = Entry("state.npz", "bundle/write.py", "physics and counters, until the stage is done")
    progress = Entry("progress.json", "bundle/write.py", "gate and evaluations, until the stage is done")


META = BundleFolder.meta.name


def read_status(folder: Path) -> dict[str, Any] | None:
    """Return a run folder's status, or None."""
    try:
        status: dict[str, Any] = json.loads(RunFolder(folder).status.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return status


def write_status(folder: Path, **status: Any) -> dict[str, Any]:
    """Write a run folder's status and return it; create the folder if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(RunFolder(folder).status, status)
    return status


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; see :func:`as_json`."""
    write_text(path, as_json(content, indent=2) + "\n")


def as_json(content: Any, indent: int | None = None) -> str:
    """Return JSON, which has neither NaN nor infinity: they become null."""
    return json.dumps(_without_nan(content), indent=indent, default=str, allow_nan=False)


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with whole_file(path) as building:
        building.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path with ``path``'s suffix; it replaces ``path`` at the end, or is deleted on an error."""
    building = path.with_name(f".{path.name}-{os.getpid()}{path.suffix}")
    try:
        yield building
        os.replace(building, path)
    finally:
        building.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; it replaces ``path`` at the end, or is deleted on an error.

    If the process is killed between, :func:`tidy` restores the older ``path``.
    """
    building = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    old = path.with_name(f".{path.name}-old-{uuid.uuid4().hex[:8]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    building.mkdir()
    try:
        yield building
        if path.exists():
            os.rename(path, old)
        os.rename(building, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Delete partial writes of a killed process and restore what it was replacing.

    All hidden entries are deleted: only for folders of checkpoints and replay segments.
    """
    for path in folder.glob(".*"):
        replaced, _, _ = path.name.removeprefix(".").partition("-old-")
        if path.name.startswith(f".{replaced}-old-") and not (folder / replaced).exists():
            path.rename(folder / replaced)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file or folder; the system frees it when the process ends.

    There is no lock file. On a file system without locks this only logs a warning.

    Args:
        path: must exist.
        patience: timeout, s.

    Raises:
        BlockingIOError: another process holds it.
    """
    held = os.open(path, os.O_RDONLY)
    try:
        _lock(held, path, time.monotonic() + patience)
        yield
    finally:
        os.close(held)


def _lock(held: int, path: Path, end: float) -> None:
    from filelock import lock_descriptor  # slow import

    while True:
        try:
            if lock_descriptor(held, blocking=False):
                return
        except OSError as error:
            log.warning("%s cannot be locked (%s): no second command may write there", path, error.strerror)
            return
        if time.monotonic() >= end:
            raise BlockingIOError(errno.EAGAIN, "another process writes there", str(path))
        time.sleep(POLL)
