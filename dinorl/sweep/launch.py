"""Launches jobs through Hydra's launcher: what each is told, what became of it, and how all of them are interrupted."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TypeVar

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dinorl.config.overrides import hydra_value
from dinorl.files.run_folder import RunFolder, locked, read_status, write_status
from dinorl.sweep import isolate as isolation
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.job import PATIENCE, busy
from dinorl.sweep.plan import Job
from dinorl.tracking.terminal import say
from dinorl.training.interrupt import PASSED_ON

log = logging.getLogger(__name__)
T = TypeVar("T")

FINAL = ("DONE", "FAILED", "PRUNED")
# How long jobs in other processes may take to keep what they have when the command is interrupted, s.
ASKED_PATIENCE = 7.0


class Launching:
    """Launches jobs into a sweep's folder.

    Args:
        context: Hydra's.
        task: what a launcher runs, :func:`dinorl.sweep.job.run`.
        config: the first composition, which says what launcher.
        folder: the sweep's.
        retries: how often a job is tried again whose process ended without a word.
        isolate: whether a job gets a process of its own where the launcher would run it in the command's.
    """

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
        folder: SweepFolder,
        retries: int,
        isolate: bool,
    ) -> None:
        self.context, self.config, self.folder, self.retries = context, config, folder, retries
        self.task = isolation.Apart(task) if isolate else task
        self._launched = 0

    @property
    def _forks(self) -> bool:
        """Whether jobs are forked from a server that has imported what they need."""
        return isinstance(self.task, isolation.Apart) and self.config.hydra.launcher._target_.endswith(".BasicLauncher")

    def prepare(self) -> None:
        """Begin in the background what the first job would wait for."""
        if self._forks:
            isolation.prepare()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what needs MLflow: beside the jobs, if that saves this process the seconds of importing it.

        If the other process is lost it is done here: twice done must be as good as once.
        """
        if not self._forks:
            return function(*arguments)
        try:
            return isolation.call(function, *arguments, logs=self.config.hydra.hydra_logging)
        except isolation.JobLost as lost:
            log.warning("%s; trying again in the command's own", lost)
            return function(*arguments)

    def launch(self, jobs: Sequence[Job], states: dict[str, dict[str, Any]]) -> None:
        """Launch jobs together; those that come back without a final state, again, each on its own."""
        left = []
        for job in jobs:
            folder = self.folder.run_dir(job)
            if folder.is_symlink():  # another lineage's, that this one shared
                folder.unlink()
            try:  # before its plan is remembered: what another plan was done with is not taken for this one's
                with locked(folder, PATIENCE):
                    RunFolder(folder).status.unlink()
            except BlockingIOError:  # a worker that outlived the command that started it
                states[job.key] = {"status": "FAILED", "gate": "none", "error": busy(folder)}
                continue
            except OSError:
                pass
            left.append(job)
        self.folder.remember(left)
        for attempt in range(self.retries + 1):
            batches = [left] if attempt == 0 else [[job] for job in left]
            left = []
            for batch in filter(None, batches):
                causes = self._batch(batch)
                for job in batch:
                    state = read_status(self.folder.run_dir(job)) or {}
                    if state.get("status") not in FINAL:
                        left.append(job)
                        error = causes.get(job.key) or "it ended without a word"
                        state = {"status": "FAILED", "gate": "none", "error": error, "lost": True}
                    states[job.key] = state
        for job in left:
            with contextlib.suppress(OSError):  # what is in the way of the folder may be what went wrong
                write_status(self.folder.run_dir(job), **states[job.key])

    def _batch(self, batch: Sequence[Job]) -> dict[str, str]:
        """Launch jobs through Hydra's launcher; return what went wrong outside of a job's own care, by its key."""
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=_with_ray_defaults(self.config)
        )
        first, self._launched = self._launched, self._launched + len(batch)
        try:
            with self._asking(batch):
                returned = launcher.launch([self._job_overrides(job) for job in batch], initial_job_idx=first)
        except Exception as error:
            log.warning("launch failed: %s", error)
            say(f"launch failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            return {job.key: f"{type(error).__name__}: {error}" for job in batch}
        finally:
            if "ray" in sys.modules:  # a worker that outlived its failed launch must not write beside its successor
                sys.modules["ray"].shutdown()
        return {
            job.key: f"{type(came._return_value).__name__}: {came._return_value}"
            for job, came in zip(batch, returned, strict=False)
            if came.status == JobStatus.FAILED
        }

    @contextlib.contextmanager
    def _asking(self, batch: Sequence[Job]) -> Iterator[None]:
        """Pass an interruption on to jobs in other processes, and wait for them: launchers would kill them.

        A job in this process listens by itself while it trains.
        """

        def running() -> list[int]:
            states = [read_status(self.folder.run_dir(job)) or {} for job in batch]
            here = [s["pid"] for s in states if s.get("status") == "RUNNING" and s.get("host") == platform.node()]
            return [pid for pid in here if pid != os.getpid() and _lives(pid)]

        def hear(signum: int, frame: FrameType | None) -> None:
            for number in before:  # a second one ends at once
                signal.signal(number, signal.default_int_handler)
            for pid in running():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, PASSED_ON)
            end = time.monotonic() + ASKED_PATIENCE
            while running() and time.monotonic() < end:
                time.sleep(0.05)
            raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _job_overrides(self, job: Job) -> list[str]:
        own = {
            "hydra.sweep.dir": str(self.folder.path),
            "hydra.sweep.subdir": job.folder,
            "tracking.sweep": self.folder.path.name,
            "tracking.lineage": job.lineage,
            "tracking.lineages": ",".join(job.lineages),
            "tracking.parent": str(self.folder.path / job.lineage),
            "tracking.job": job.key,
        }
        if job.parent is not None:
            own["warm_start"] = str(self.folder.run_dir(job.parent))
        kept = [o for o in job.overrides if not (job.parent is not None and o.lstrip("+").startswith("warm_start="))]
        threads = [f"sim.threads={self._threads()}"] if job.config.sim.threads == 0 and self._threads() else []
        return [*kept, *threads, *(f"{key}={hydra_value(value)}" for key, value in own.items())]

    def _threads(self) -> int:
        """Return how many threads a job may use where jobs run side by side and ``sim.threads`` is 0; else 0."""
        launcher = self.config.hydra.launcher
        if OmegaConf.select(launcher, "ray") is not None:
            return max(1, int(OmegaConf.select(launcher, "ray.remote.num_cpus") or 1))
        side_by_side = OmegaConf.select(launcher, "n_jobs")
        if side_by_side is None or side_by_side == 1:
            return 0
        from joblib import cpu_count  # 70 ms that no other command needs

        return max(1, cpu_count() // side_by_side) if side_by_side > 0 else 1


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _with_ray_defaults(config: DictConfig) -> DictConfig:
    """Return a config in which Ray, if it launches, is quiet and gives each job one CPU, unless told otherwise."""
    if OmegaConf.select(config, "hydra.launcher.ray") is None:
        return config
    quiet = {"init": {"include_dashboard": False, "log_to_driver": False}, "remote": {"num_cpus": 1}}
    chosen = config.copy()
    with open_dict(chosen):
        chosen.hydra.launcher.ray = OmegaConf.merge(quiet, chosen.hydra.launcher.ray)
    return chosen
