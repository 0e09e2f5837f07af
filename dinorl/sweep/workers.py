"""Where jobs run: in processes of this machine, or where a Hydra launcher puts them. Ray is in ``ray_workers``."""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
from collections.abc import Sequence
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dinorl.config import ConfigError
from dinorl.files.run_folder import read_status
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.isolate import Child, Failure
from dinorl.sweep.plan import Job
from dinorl.training.interrupt import PASSED_ON

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"

# A job and what it returned, or its error.
End = tuple[Job, Any]


class Interruptible(Protocol):
    """Jobs that can be stopped."""

    def interrupt(self) -> None:
        """Ask running jobs to save a bundle and stop; forget queued ones."""

    def busy(self) -> bool:
        """Return whether a job runs."""


class Workers(Interruptible, Protocol):
    """Run jobs. A job that ends badly ends no other."""

    def submit(self, job: Job, overrides: Sequence[str]) -> None:
        """Queue a job; it starts when there is room for it."""

    def wait(self) -> list[End]:
        """Wait until a job has ended; return it, or several, with its result or error."""

    def left(self) -> int:
        """Return how many jobs :meth:`wait` has not returned."""

    def close(self) -> None:
        """End what still runs."""


@runtime_checkable
class OnCluster(Protocol):
    """Workers on several machines."""

    def machines_without(self, folder: Path) -> list[str]:
        """Return the machines that do not see a sweep's folder, which has its plan."""


class HydraJobs:
    """Composes jobs as Hydra's launchers do.

    Args:
        context: Hydra's.
        task: the jobs' task function.
        config: the first composition.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = context, task, config
        self._numbers = 0

    def composed(self, overrides: Sequence[str]) -> bytes:
        """Return a job for :func:`run_hydra_job`, which may be in another process or on another machine."""
        import cloudpickle  # as in Hydra's launchers

        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = self._numbers
        self._numbers += 1
        pickled: bytes = cloudpickle.dumps((self.context, config, self.task, Singleton.get_state()))
        return pickled

    def launch(self, batch: Sequence[Sequence[str]]) -> list[Any]:
        """Run jobs through Hydra's launcher and return their results or errors."""
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=Picklable(self.task), config=self.config
        )
        first, self._numbers = self._numbers, self._numbers + len(batch)
        returned = launcher.launch([list(overrides) for overrides in batch], initial_job_idx=first)
        return [one._return_value for one in returned]


def run_hydra_job(job: bytes) -> Any:
    """Run a job of :class:`HydraJobs` here and return what its task function returned."""
    context, config, task, singletons = pickle.loads(job)
    setup_globals()
    Singleton.set_state(singletons)
    HydraConfig.instance().set_config(config)
    return run_composed(context, task, config)


def run_composed(context: HydraContext, task: TaskFunction, config: DictConfig) -> Any:
    """Run a composed job in this process; return what its task function returned, or raise its error."""
    done = run_job(
        hydra_context=context,
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if done.status == JobStatus.FAILED:
        raise done._return_value
    return done._return_value


class Picklable:
    """A task function whose errors a launcher can pickle."""

    def __init__(self, task: TaskFunction) -> None:
        self._task = task

    def __call__(self, cfg: DictConfig) -> Any:
        """Run the task."""
        try:
            return self._task(cfg)
        except Exception as error:
            failure = Failure.of(error)
            if failure.error() is None:
                failure.unwrapped()
            raise


class Processes:
    """Jobs in processes of the fork server.

    Args:
        jobs: composes them.
        count: jobs at once.
    """

    def __init__(self, jobs: HydraJobs, count: int) -> None:
        self._jobs, self._count = jobs, count
        self._queued: list[tuple[Job, bytes]] = []
        self._running: dict[Any, tuple[Job, Child]] = {}

    def submit(self, job: Job, overrides: Sequence[str]) -> None:
        """Queue a job."""
        self._queued.append((job, self._jobs.composed(overrides)))

    def wait(self) -> list[End]:
        """Start queued jobs; wait until one has ended."""
        while self._queued and len(self._running) < self._count:
            job, composed = self._queued.pop(0)
            child = Child(run_hydra_job, composed)
            self._running[child.receive] = (job, child)
        ended: list[End] = []
        for ready in wait_for(list(self._running)):
            job, child = self._running.pop(ready)
            try:
                ended.append((job, child.result()))
            except BaseException as error:
                ended.append((job, error))
        return ended

    def interrupt(self) -> None:
        """Signal running jobs; forget queued ones."""
        self._queued.clear()
        for _, child in self._running.values():
            child.signal(PASSED_ON)

    def left(self) -> int:
        """Return how many jobs are queued, run, or are not waited for."""
        return len(self._queued) + len(self._running)

    def busy(self) -> bool:
        """Return whether a process runs."""
        return any(child.alive() for _, child in self._running.values())

    def close(self) -> None:
        """Kill running jobs."""
        for _, child in self._running.values():
            child.kill()
        self._running.clear()


class JobsHere:
    """Jobs whose processes on this machine are known by their status.

    Args:
        folder: of the sweep.
        jobs: may grow.
    """

    def __init__(self, folder: SweepFolder, jobs: list[Job]) -> None:
        self._folder, self._jobs = folder, jobs

    def interrupt(self) -> None:
        """Signal running jobs; one in this process handles signals itself."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, PASSED_ON)

    def busy(self) -> bool:
        """Return whether a job runs."""
        return bool(self._pids())

    def _pids(self) -> list[int]:
        states = [read_status(self._folder.run_dir(job)) or {} for job in self._jobs]
        here = [s["pid"] for s in states if s.get("status") == "RUNNING" and s.get("host") == platform.node()]
        return [pid for pid in here if pid != os.getpid() and _lives(pid)]


class ByLauncher:
    """Jobs through Hydra's launcher, in batches: it returns when the last of a batch has ended.

    Args:
        jobs: composes them.
        folder: of the sweep.
    """

    def __init__(self, jobs: HydraJobs, folder: SweepFolder) -> None:
        self._jobs = jobs
        self._queued: list[tuple[Job, Sequence[str]]] = []
        self._batch: list[Job] = []
        self._here = JobsHere(folder, self._batch)

    def submit(self, job: Job, overrides: Sequence[str]) -> None:
        """Add a job to the next batch."""
        self._queued.append((job, overrides))

    def wait(self) -> list[End]:
        """Launch a batch and wait for all of it."""
        batch, self._queued = self._queued, []
        self._batch[:] = [job for job, _ in batch]
        try:
            results = self._jobs.launch([overrides for _, overrides in batch])
        except Exception as error:
            results = [error] * len(batch)
        return [(job, result) for (job, _), result in zip(batch, results, strict=True)]

    def interrupt(self) -> None:
        """Signal running jobs on this machine; forget queued ones."""
        self._queued.clear()
        self._here.interrupt()

    def left(self) -> int:
        """Return the size of the next batch."""
        return len(self._queued)

    def busy(self) -> bool:
        """Return whether a job runs on this machine."""
        return self._here.busy()

    def close(self) -> None:
        """Do nothing: launchers end their workers."""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def processes_at_once(launcher: DictConfig, isolate: bool) -> int:
    """Return how many jobs run in processes of this machine at once; 0: another launcher runs them.

    Raises:
        ConfigError: an option of joblib that does not act here.
    """
    if launcher._target_ == BASIC:
        return int(isolate)
    if launcher._target_ != JOBLIB:
        return 0
    from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
    from joblib import cpu_count  # slow import

    usual = OmegaConf.structured(JobLibLauncherConf)
    for key in map(str, launcher):
        if key not in ("_target_", "n_jobs") and launcher[key] != usual[key]:
            raise ConfigError(
                "has no effect: each job runs in a process of its own, and joblib only says how many at once",
                key=f"hydra.launcher.{key}={launcher[key]}",
                hint="Remove it; hydra.launcher.n_jobs is what acts",
            )
    wanted: int = launcher.n_jobs
    if wanted == 0:
        raise ConfigError("expected jobs at once, or -1 for one a core, found 0", key="hydra.launcher.n_jobs=0")
    return wanted if wanted > 0 else max(1, cpu_count() + 1 + wanted)
