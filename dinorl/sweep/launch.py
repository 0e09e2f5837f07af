"""Launches the jobs of a plan: each when its parent is done, again if its process died."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from dinorl.bundle.locate import resolve
from dinorl.config import ConfigError, SweepConfig, TrackingConfig
from dinorl.config.overrides import hydra_value
from dinorl.config.species import SPECIES_DIR
from dinorl.files.process import HURRY, on_stop
from dinorl.files.run_folder import RunFolder, locked, read_status, write_status
from dinorl.sim.devices import beyond_cpu, places
from dinorl.sweep import isolate as isolation
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.job import PATIENCE, busy
from dinorl.sweep.plan import Job, Plan
from dinorl.sweep.workers import (
    BASIC,
    RAY,
    ByLauncher,
    HydraJobs,
    Interruptible,
    OnCluster,
    Processes,
    Workers,
    processes_at_once,
)
from dinorl.tracking.courier import fetch_run, send_bundle, send_lineage, start_key
from dinorl.tracking.depot import DEFAULT, MLFLOW
from dinorl.tracking.store import uri_of
from dinorl.tracking.terminal import say

log = logging.getLogger(__name__)
T = TypeVar("T")

FINAL = ("DONE", "FAILED", "PRUNED")
INTERRUPT_TIMEOUT = 7.0  # s, for the jobs' checkpoints

# A job's final status.json.
State = dict[str, Any]


class Launching:
    """Launches jobs into a sweep's folder.

    Args:
        context: Hydra's.
        task: the jobs' task function, :func:`dinorl.sweep.job.run`.
        config: the first composition, with the launcher's config.
        folder: of the sweep.
        settings: of the sweep.

    Raises:
        ConfigError: an option of the launcher has no effect.
    """

    def __init__(
        self, context: HydraContext, task: TaskFunction, config: DictConfig, folder: SweepFolder, settings: SweepConfig
    ) -> None:
        self.folder, self.retries = folder, settings.retries
        self._launcher = config.hydra.launcher
        self._hydra_logging = config.hydra.hydra_logging
        self._jobs = HydraJobs(context, task, config)
        self._count = processes_at_once(self._launcher, settings.isolate)
        self._preloaded = False
        self._workers: Workers
        self._depot: str | None = None

    def prepare(self) -> None:
        """Preload modules in the background, for jobs that have their own processes."""
        if self._count:
            isolation.prepare()
            self._preloaded = True

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that needs MLflow, in a preloaded process if possible.

        If that process dies, the function is called again here, so it must be idempotent.
        """
        if not self._preloaded:
            return function(*arguments)
        try:
            return isolation.call(function, *arguments, logs=self._hydra_logging)
        except isolation.JobLost as lost:
            log.warning("%s; trying again in the command's own", lost)
            return function(*arguments)

    def check_devices(self, plan: Plan) -> None:
        """Say where jobs run, if not simply on the CPU. Clusters have machines of their own, so jobs check there.

        Raises:
            ConfigError: this machine lacks something that they need.
        """
        stages = [(job.config.sim, job.config.algo) for job in plan.jobs]
        special = [stage for stage in stages if beyond_cpu(*stage)]
        if special and (self._count or self._launcher._target_ == BASIC):
            for place in self.call(places, special):
                say(place)

    @contextlib.contextmanager
    def connected(self, tracking: TrackingConfig) -> Iterator[None]:
        """Connect to where jobs run, and decide how bundles travel.

        Raises:
            ConfigError: machines of a cluster share neither the sweep's folder nor a place for bundles.
        """
        self.folder.remember([])
        self._workers = self._make_workers()
        try:
            self._depot = self._find_depot(tracking)
            yield
        finally:
            self._workers.close()

    def run(
        self, plan: Plan, done: Set[str], over: Callable[[Plan, Job, Mapping[str, State]], None] = lambda *_: None
    ) -> dict[str, State]:
        """Run all jobs except done ones, while :meth:`connected`.

        Args:
            plan: of the sweep.
            done: keys of the jobs to skip.
            over: is called with each job that is over, and the states of all that are.

        Returns:
            The final state of each job, by its key.
        """
        if self._depot is not None:
            self._send_starts(plan, self._depot, uri_of(plan.jobs[0].config.tracking))
        with interrupting(self._workers):
            return _Run(self, self._workers, plan, done, over).states

    def _send_starts(self, plan: Plan, depot: str, tracking: str) -> None:
        """Send what jobs need from the beginning: their lineages' MLflow runs, and bundles of this machine."""
        for lineage in plan.lineages:
            self.call(send_lineage, depot, self.folder.path / lineage.name, tracking)
        for bundle in {start for job in plan.jobs if (start := _own_bundle(job)) is not None}:
            self.call(send_bundle, depot, bundle, tracking)

    def bring_home(self, job: Job) -> None:
        """Fetch the files of a job that ran elsewhere."""
        if self._depot is None:
            return
        try:
            self.call(fetch_run, self._depot, job.key, self.folder.run_dir(job), uri_of(job.config.tracking))
        except Exception as error:
            say(f"{job.folder}: its files are not here: {isolation.describe(error)}")

    def _find_depot(self, tracking: TrackingConfig) -> str | None:
        """Return where this sweep's bundles travel, or None: all machines share its folder."""
        given, uri, workers = tracking.bundles, uri_of(tracking), self._workers
        if given is not None:
            remote = "://" in given or given.startswith(f"{MLFLOW}:")
            return self.folder.depot(given if remote else str(Path(given).absolute()))
        without = workers.machines_without(self.folder.path) if isinstance(workers, OnCluster) else []
        if not without:
            return None
        if not uri.startswith("http"):
            raise ConfigError(
                f"{', '.join(without)}: {self.folder.path} of this machine is not there, so nothing that a job leaves "
                "would come back",
                hint="Give tracking.uri=http://… of an MLflow server, which can carry bundles too (or "
                "tracking.bundles=…), or run in a folder that all machines share",
            )
        say(f"{len(without)} of the machines do not see {self.folder.path}: bundles travel through MLflow's artifacts")
        return self.folder.depot(DEFAULT)

    def _make_workers(self) -> Workers:
        if self._count:
            return Processes(self._jobs, self._count)
        if self._launcher._target_ == RAY:
            from dinorl.sweep.ray_workers import OnRay  # imports Ray, which is slow

            return OnRay(self._jobs, self._launcher)
        return ByLauncher(self._jobs, self.folder)

    def overrides(self, job: Job) -> list[str]:
        """Return a job's overrides: its own, and what the command gives it."""
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
        if self._depot is not None:
            own["tracking.bundles"] = self._depot
        if job.parent is not None:
            own["warm_start"], own["tracking.start"] = str(self.folder.run_dir(job.parent)), job.parent.key
        elif (start := _own_bundle(job)) is not None:
            own["warm_start"] = str(start)
            if self._depot is not None:
                own["tracking.start"] = start_key(start)
        kept = [o for o in job.overrides if o.lstrip("+~").partition("=")[0] not in own]
        threads = [f"sim.threads={self._threads()}"] if job.config.sim.threads == 0 and self._threads() else []
        return [*kept, *threads, *(f"{key}={hydra_value(value)}" for key, value in own.items())]

    def _threads(self) -> int:
        """Return the threads of a job that may run beside others; 0: all."""
        if self._launcher._target_ == RAY:
            return max(1, int(self._launcher.ray.remote.get("num_cpus") or 1))
        if self._launcher._target_ == BASIC or not self._count:
            return int(self._launcher.get("cpus_per_task") or 0)  # Slurm
        from joblib import cpu_count  # slow import

        cores: int = cpu_count()
        return max(1, cores // self._count)


def _own_bundle(job: Job) -> Path | None:
    """Return the bundle that a job without a parent starts from, if it is not one of the zoo."""
    if job.parent is not None or job.config.warm_start is None:
        return None
    bundle = resolve(job.config.warm_start).absolute()
    return None if bundle.is_relative_to(SPECIES_DIR) else bundle


class _Run:
    """One pass over a plan: starts jobs, retries lost ones, keeps their states."""

    def __init__(
        self, launching: Launching, workers: Workers, plan: Plan, done: Set[str], over: Callable[..., None]
    ) -> None:
        self._over: Callable[[Job], None] = lambda job: over(plan, job, self.states)
        self.folder, self._launching, self._workers, self._done = launching.folder, launching, workers, done
        self.states: dict[str, State] = {}
        self._attempts: Counter[str] = Counter()
        waiting = list(plan.jobs)
        while waiting or workers.left():
            ready = [job for job in waiting if job.parent is None or job.parent.key in self.states]
            waiting = [job for job in waiting if job not in ready]
            self._start([job for job in ready if not self._settle(job)])
            for job, result in workers.wait() if workers.left() else ():
                self._end(job, result)

    def _settle(self, job: Job) -> bool:
        """Set the state of a job that is not to run; return whether it is one."""
        blocked = self._blocked(job)
        if blocked is not None:
            self.states[job.key] = blocked
        elif job.key in self._done:
            self.states[job.key] = {**(read_status(self.folder.run_dir(job)) or {}), "reused": True}
            self.folder.link_shared(job)
        elif (held := self._clear(job)) is not None:
            self.states[job.key] = held
        if job.key in self.states:
            self._over(job)
        return job.key in self.states

    def _blocked(self, job: Job) -> State | None:
        """Return the state of a job blocked by its parent, or None."""
        if job.parent is None:
            return None
        before = self.states[job.parent.key]
        if before["status"] == "PRUNED":
            return self._prune(job, before["error"])
        if before["status"] != "DONE":
            return {"status": "NOT RUN", "error": f"{job.parent.folder}: {before['status'].lower()}"}
        if before.get("gate") == "stopped_on_budget":
            return self._prune(job, f"{job.parent.folder} did not pass its gate (curriculum.on_budget=stop)")
        return None

    def _prune(self, job: Job, reason: str) -> State:
        return write_status(self.folder.run_dir(job), status="PRUNED", gate="none", error=reason)

    def _clear(self, job: Job) -> State | None:
        """Delete the old status of a job's folder; return the state of a job whose folder is in use.

        Call it before the plan is saved, or another plan's status counts as this one's.
        """
        folder = self.folder.run_dir(job)
        if folder.is_symlink():  # shared with another lineage earlier
            folder.unlink()
        try:
            with locked(folder, PATIENCE):
                RunFolder(folder).status.unlink()
        except BlockingIOError:  # a worker survived its command
            return {"status": "FAILED", "gate": "none", "error": busy(folder)}
        except OSError:
            pass
        return None

    def _start(self, jobs: Sequence[Job]) -> None:
        if jobs:
            self.folder.remember(jobs)
        for job in jobs:
            self._workers.submit(job, self._launching.overrides(job))

    def _end(self, job: Job, result: Any) -> None:
        """Keep the state of a job that ended, or start it again."""
        if isinstance(result, KeyboardInterrupt):  # it alone was stopped
            _interrupt(self._workers)
            raise KeyboardInterrupt
        came = result if isinstance(result, dict) else {}
        if came:
            self._launching.bring_home(job)
        state = (read_status(self.folder.run_dir(job)) or {}) | came  # which is believed
        if state.get("status") not in FINAL:
            error = result if isinstance(result, BaseException) else isolation.JobLost("no result came back")
            if self._attempts[job.key] < self._launching.retries:
                self._attempts[job.key] += 1
                say(f"{job.folder}: {isolation.describe(error)}; it is started again")
                return self._workers.submit(job, self._launching.overrides(job))
            state = {"status": "FAILED", "gate": "none", "error": isolation.describe(error), "lost": True}
            self._record(job, state, error)
        self.states[job.key] = state
        self.folder.link_shared(job)
        self._over(job)

    def _record(self, job: Job, state: State, error: BaseException) -> None:
        """Write the state of a job that could not."""
        with contextlib.suppress(OSError):  # the folder may be the cause
            write_status(self.folder.run_dir(job), **state)
            with RunFolder(self.folder.run_dir(job)).log.open("a", encoding="utf-8") as file:
                file.writelines(traceback.format_exception(error))


@contextlib.contextmanager
def interrupting(workers: Interruptible) -> Iterator[None]:
    """When stopped, interrupt the jobs and wait for checkpoints. A job in this process handles signals itself."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for number in before:  # a second one ends at once
            signal.signal(number, signal.default_int_handler if number in HURRY else signal.SIG_IGN)
        _interrupt(workers)
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


def _interrupt(workers: Interruptible) -> None:
    """Interrupt the jobs and wait for their checkpoints."""
    workers.interrupt()
    end = time.monotonic() + INTERRUPT_TIMEOUT
    while workers.busy() and time.monotonic() < end:
        time.sleep(0.05)
