"""Launches jobs through Hydra's launcher: their overrides, retries, results and interruption."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dinorl.config.overrides import hydra_value
from dinorl.files.process import HURRY, on_stop
from dinorl.files.run_folder import RunFolder, locked, read_status, write_status
from dinorl.sweep import isolate as isolation
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.job import PATIENCE, busy
from dinorl.sweep.plan import Job
from dinorl.tracking.store import uri_of
from dinorl.tracking.terminal import say
from dinorl.training.interrupt import PASSED_ON

log = logging.getLogger(__name__)
T = TypeVar("T")

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
FINAL = ("DONE", "FAILED", "PRUNED")
INTERRUPT_TIMEOUT = 7.0  # s, for the jobs' checkpoints


class Launching:
    """Launches jobs into a sweep's folder.

    Args:
        context: Hydra's.
        task: the launchers' task function, :func:`dinorl.sweep.job.run`.
        config: the first composition, with the launcher's config.
        folder: of the sweep.
        retries: of a job whose process died.
        isolate: run jobs in new processes, unless the launcher does.
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
        self.context, self.folder, self.retries = context, folder, retries
        self.config = _one_after_another(config)
        self.task = isolation.Isolated(task) if isolate else task
        self._launched = 0

    @property
    def _forks(self) -> bool:
        """Whether jobs are forked from the preloaded server."""
        basic: bool = self.config.hydra.launcher._target_ == BASIC_LAUNCHER
        return basic and isinstance(self.task, isolation.Isolated)

    def prepare(self) -> None:
        """Preload modules in the background."""
        if self._forks:
            isolation.prepare()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that needs MLflow, in a preloaded process if possible.

        If that process dies, the function is called again here, so it must be idempotent.
        """
        if not self._forks:
            return function(*arguments)
        try:
            return isolation.call(function, *arguments, logs=self.config.hydra.hydra_logging)
        except isolation.JobLost as lost:
            log.warning("%s; trying again in the command's own", lost)
            return function(*arguments)

    def launch(self, jobs: Sequence[Job], states: dict[str, dict[str, Any]]) -> None:
        """Launch jobs together; retry lost ones one by one.

        Args:
            jobs: of one level.
            states: receives each job's final state, by its key.
        """
        left = [job for job in jobs if self._clear(job, states)]
        self.folder.remember(left)
        errors: dict[str, BaseException] = {}
        for attempt in range(self.retries + 1):
            batches = [left] if attempt == 0 else [[job] for job in left]
            left = []
            for batch in filter(None, batches):
                errors = {key: error for key, error in errors.items() if key not in {job.key for job in batch}}
                errors |= self._batch(batch)
                for job in batch:
                    state = read_status(self.folder.run_dir(job)) or {}
                    if state.get("status") not in FINAL:
                        left.append(job)
                        error = isolation.describe(errors[job.key]) if job.key in errors else "no result came back"
                        state = {"status": "FAILED", "gate": "none", "error": error, "lost": True}
                    states[job.key] = state
        for job in left:
            with contextlib.suppress(OSError):  # the folder may be the cause
                write_status(self.folder.run_dir(job), **states[job.key])
                if job.key in errors:
                    with RunFolder(self.folder.run_dir(job)).log.open("a", encoding="utf-8") as file:
                        file.writelines(traceback.format_exception(errors[job.key]))

    def _clear(self, job: Job, states: dict[str, dict[str, Any]]) -> bool:
        """Delete the old status of a job's folder; if the folder is in use, the job fails.

        Call it before the plan is saved, or another plan's status counts as this one's.
        """
        folder = self.folder.run_dir(job)
        if folder.is_symlink():  # shared with another lineage earlier
            folder.unlink()
        try:
            with locked(folder, PATIENCE):
                RunFolder(folder).status.unlink()
        except BlockingIOError:  # a worker survived its command
            states[job.key] = {"status": "FAILED", "gate": "none", "error": busy(folder)}
            return False
        except OSError:
            pass
        return True

    def _batch(self, batch: Sequence[Job]) -> dict[str, BaseException]:
        """Launch jobs through Hydra's launcher; return unhandled errors by job key."""
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=_with_ray_defaults(self.config)
        )
        first, self._launched = self._launched, self._launched + len(batch)
        try:
            with self._interrupting(batch):
                returned = launcher.launch([self._job_overrides(job) for job in batch], initial_job_idx=first)
        except Exception as error:
            log.warning("launch failed: %s", error)
            say(f"launch failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            return {job.key: error for job in batch}
        finally:
            if "ray" in sys.modules:  # no two workers a job
                sys.modules["ray"].shutdown()
        return {
            job.key: result._return_value
            for job, result in zip(batch, returned, strict=False)
            if result.status == JobStatus.FAILED
        }

    def _running(self, batch: Sequence[Job]) -> list[int]:
        """Return the other processes of running jobs on this machine."""
        states = [read_status(self.folder.run_dir(job)) or {} for job in batch]
        here = [s["pid"] for s in states if s.get("status") == "RUNNING" and s.get("host") == platform.node()]
        return [pid for pid in here if pid != os.getpid() and _lives(pid)]

    @contextlib.contextmanager
    def _interrupting(self, batch: Sequence[Job]) -> Iterator[None]:
        """When stopped, interrupt the jobs and wait for checkpoints; launchers would kill them.

        A job in this process handles signals itself.
        """

        def interrupt(signum: int, frame: FrameType | None) -> None:
            for number in before:  # a second one ends at once
                signal.signal(number, signal.default_int_handler if number in HURRY else signal.SIG_IGN)
            for pid in self._running(batch):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, PASSED_ON)
            end = time.monotonic() + INTERRUPT_TIMEOUT
            while self._running(batch) and time.monotonic() < end:
                time.sleep(0.05)
            raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = on_stop(interrupt)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _job_overrides(self, job: Job) -> list[str]:
        own = {
            "hydra.sweep.dir": str(self.folder.path),
            "hydra.sweep.subdir": job.folder,
            "tracking.uri": uri_of(job.config.tracking),
            "tracking.sweep": self.folder.path.name,
            "tracking.lineage": job.lineage,
            "tracking.lineages": ",".join(job.lineages),
            "tracking.parent": str(self.folder.path / job.lineage),
            "tracking.job": job.key,
        }
        if job.parent is not None:
            own["warm_start"] = str(self.folder.run_dir(job.parent))
        elif job.config.warm_start is not None and Path(job.config.warm_start).exists():
            own["warm_start"] = str(Path(job.config.warm_start).absolute())
        kept = [o for o in job.overrides if o.lstrip("+~").partition("=")[0] not in own]
        threads = [f"sim.threads={self._threads()}"] if job.config.sim.threads == 0 and self._threads() else []
        return [*kept, *threads, *(f"{key}={hydra_value(value)}" for key, value in own.items())]

    def _threads(self) -> int:
        """Return the threads of a parallel job; 0 if jobs are sequential."""
        launcher = self.config.hydra.launcher
        if OmegaConf.select(launcher, "ray") is not None:
            return max(1, int(OmegaConf.select(launcher, "ray.remote.num_cpus") or 1))
        side_by_side = OmegaConf.select(launcher, "n_jobs")
        if side_by_side is None:
            return 0
        from joblib import cpu_count  # slow import

        return max(1, cpu_count() // side_by_side) if side_by_side > 0 else 1


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _one_after_another(config: DictConfig) -> DictConfig:
    """Return a config with Hydra's basic launcher for joblib with one job, which pickles nothing and calls it here."""
    if OmegaConf.select(config, "hydra.launcher.n_jobs") != 1:
        return config
    chosen = config.copy()
    with open_dict(chosen):
        chosen.hydra.launcher = {"_target_": BASIC_LAUNCHER}
    return chosen


def _with_ray_defaults(config: DictConfig) -> DictConfig:
    """Return a config with defaults for Ray: quiet, one CPU a job; a cluster that exists keeps its own memory."""
    if OmegaConf.select(config, "hydra.launcher.ray") is None:
        return config
    address = OmegaConf.select(config, "hydra.launcher.ray.init.address") or os.environ.get("RAY_ADDRESS")
    joins = {"object_store_memory": None} if address not in (None, "local") else {}  # the plugin sets it otherwise
    defaults = {"init": {"include_dashboard": False, "log_to_driver": False} | joins, "remote": {"num_cpus": 1}}
    chosen = config.copy()
    with open_dict(chosen):
        chosen.hydra.launcher.ray = OmegaConf.merge(defaults, chosen.hydra.launcher.ray)
    return chosen
