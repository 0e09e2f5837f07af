"""Runs a plan: checks all of it first, then launches it level by level through Hydra's launcher."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import shlex
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dinorl import report
from dinorl.config import CONFIG_NAME, Config, ConfigError, build
from dinorl.config.explain import SCOPES, check_options, explain
from dinorl.config.messages import unknown_key, wrong_value
from dinorl.job import PASSED_ON, PATIENCE, STATUS_FILE, read_status, write_json, write_status
from dinorl.lock import locked
from dinorl.plan import Job, Plan, check_fits, hydra_value, make_plan, read_settings, trained_on

log = logging.getLogger(__name__)

PLANNING_GROUP, PLANNING_NODE = "planning", "scopes"
PLAN_FILE = "plan.json"
SPOOL = "tracking.jsonl"  # of dinorl.tracking.spool, which takes seconds to import
FINAL = ("DONE", "FAILED", "PRUNED")
# How long jobs in other processes may take to keep what they have when the command is interrupted, s.
ASKED_PATIENCE = 7.0


@dataclass(frozen=True)
class SweepConfig:
    """``sweep.*``: what is said of the command, not of a stage."""

    name: str | None = None  # of the sweep's folder below outputs/; null: the time and a short id
    retries: int = 1  # how often a job is tried again whose process ended without a word

    @classmethod
    def of(cls, node: DictConfig) -> SweepConfig:
        """Check what was composed.

        Raises:
            ConfigError: a key is unknown, or a value cannot be.
        """
        known = [field.name for field in fields(cls)]
        for key in map(str, node):
            if key not in known:
                raise unknown_key(f"sweep.{key}", [f"sweep.{name}" for name in known])
        name, retries = node.get("name"), node.get("retries", cls.retries)
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise wrong_value("sweep.retries", retries, "a whole number 0 or more", 1)
        if name is not None and not isinstance(name, str | int | float):
            raise wrong_value("sweep.name", name, "the name of a folder below outputs/", "first")
        name = None if name is None else str(name)
        if name is not None and (not re.fullmatch(r"[^/\\\s.-][^/\\\x00-\x1f]*", name) or len(name.encode()) > 200):
            raise wrong_value("sweep.name", name, "the name of a folder below outputs/", "first")
        return cls(name, retries)


@lru_cache
def _new_name() -> str:
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{uuid.uuid4().hex[:6]}"


def _sweep_name(*, _root_: Any) -> str:
    """Return what the sweep's folder is called: ``sweep.name``, or the time and a short id."""
    name = OmegaConf.select(_root_, "sweep.name")
    return _new_name() if name is None else str(name)


# here and not in __main__: launchers pickle what they send to their workers
OmegaConf.register_new_resolver("dinorl.sweep_name", _sweep_name, replace=True)


@contextlib.contextmanager
def planning_keys() -> Iterator[None]:
    """Let the first composition, which precedes any sweeper, take stage-scoped keys and ``sweep.*``.

    Only within: whoever composes in the same process before or after (a notebook, a test) knows nothing of them.
    """
    node = OmegaConf.create({scope: {} for scope in SCOPES} | {"sweep": asdict(SweepConfig())})
    for scope in SCOPES:
        OmegaConf.set_struct(node[scope], False)
    ConfigStore.instance().store(
        group=PLANNING_GROUP, name=PLANNING_NODE, node=node, package="_global_", provider="dinorl"
    )
    try:
        yield
    finally:
        ConfigStore.instance().repo.pop(PLANNING_GROUP, None)


@contextlib.contextmanager
def without_planning_keys() -> Iterator[None]:
    """Compose jobs without those keys: they are no part of what a stage is."""
    repo = ConfigStore.instance().repo
    taken = repo.pop(PLANNING_GROUP, None)
    try:
        yield
    finally:
        if taken is not None:
            repo[PLANNING_GROUP] = taken


class JobsFailed(RuntimeError):
    """Some jobs of a sweep failed; everything about them has been said."""


class Sweep:
    """One command's worth of curricula.

    Args:
        context: Hydra's, for composing and launching.
        task: what a launcher runs, :func:`dinorl.job.run`.
        config: the first composition.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = context, task, config
        self.retries = SweepConfig.of(config.sweep).retries
        self.folder = Path(config.hydra.sweep.dir).absolute()
        self._launched = 0

    def run(self, arguments: list[str]) -> None:
        """Plan, check, launch, report.

        Raises:
            ConfigError: something in the arguments is wrong; nothing has been written then.
            JobsFailed: some jobs did not come to their end; the others did.
        """
        with without_planning_keys():
            plan = self._plan(arguments)
            self._check_files(plan)
            self._check_folder(plan)
            if self.config.plan_only:
                report.print_plan(plan, done=self._done_before(plan))
                return
            self._open_store(plan)
            with self._open_folder(plan):
                report.print_plan(plan, self.folder, self._done_before(plan))
                self._open_lineages(plan)
                try:
                    states = self._launch_all(plan)
                except KeyboardInterrupt:
                    self._close_interrupted(plan)
                    report.say(f"interrupted; sweep.name={self.folder.name} with the same overrides goes on")
                    raise
                self._close_tracking(plan, states)
        report.print_results(plan, states, self.folder)
        failed = sum(state["status"] in ("FAILED", "NOT RUN") for state in states.values())
        if failed:
            raise JobsFailed(f"{failed} of {len(states)} jobs failed or were not run")

    def _plan(self, arguments: list[str]) -> Plan:
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        settings, stages = read_settings(parser.parse_overrides(arguments))
        return make_plan(settings, stages, self._compose)

    def _compose(self, overrides: list[str]) -> Config:
        check_options(overrides)
        try:
            composed = self.context.config_loader.load_configuration(
                config_name=CONFIG_NAME, overrides=overrides, run_mode=RunMode.RUN
            )
            with open_dict(composed):
                del composed["hydra"]
            return build(composed)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise explain(error, overrides) from error

    def _check_files(self, plan: Plan) -> None:
        """Refuse what cannot start: a model that does not compile or lacks a sensor, a bundle that is not there."""
        from dinorl.envs.mirror import mirror_of
        from dinorl.sim.model import Animal
        from dinorl.training.locate import resolve

        seen: set[tuple[str, bool]] = set()
        for job in plan.jobs:
            mirrored = getattr(job.config, job.config.algo.name).policy_kwargs.mirror
            if (job.config.species.mjcf, mirrored) not in seen:
                seen.add((job.config.species.mjcf, mirrored))
                animal = Animal(job.config.species, job.config.sim)
                _ = animal.layout
                if mirrored:
                    mirror_of(animal)
            if job.parent is None and job.config.warm_start is not None:
                self._check_start(resolve(job.config.warm_start), job)

    def _check_start(self, source: Path, job: Job) -> None:
        """Refuse a bundle that cannot hand over: damaged, or of another animal, algorithm or network."""
        from dinorl.training import bundle  # brings torch, which takes seconds: only for those who start from one

        check_fits(bundle.load_config(source), job.config, job.stage)
        bundle.check_hand_over(source)

    def _check_folder(self, plan: Plan) -> None:
        """Refuse a folder that is not this sweep's own; find what the plan's jobs have left in it.

        A job that two lineages share lies in the folder of the one that was planned first, then.
        """
        if not self.folder.exists():
            return
        if not self.config.resume:
            raise ConfigError(
                f"{self.folder} is there already; with resume=false nothing of it may be reused. "
                "Type another sweep.name, or resume=true to run what is missing"
            )
        known = self._known()
        # whose lineage is there still: a run needs its parent's
        places = {k: f for f, k in known.items() if (self.folder / f).parent.joinpath(SPOOL).exists()}
        for job in plan.jobs:
            if job.key in places:
                job.lineage = places[job.key].partition("/")[0]
            elif any((self.folder / job.folder / "bundle").glob("*")):
                raise ConfigError(
                    f"{self.folder / job.folder}: holds a run of another plan: {self._difference(job)}. "
                    "Type another sweep.name, or delete that folder"
                )

    def _difference(self, job: Job) -> str:
        """Return in what a job's folder is not its own."""
        from dinorl.training.locate import resolve
        from dinorl.training.untrusted import read_config

        with contextlib.suppress(ConfigError, OmegaConfBaseException):
            old = read_config(resolve(self.folder / job.folder) / "config.yaml")
            changed = [
                f"{key} was {before}, is {now}"
                for key, now in trained_on(job.config).items()
                if (before := OmegaConf.select(old, key)) != now
            ]
            if changed:
                return "; ".join(changed[:3]) + ("; …" if len(changed) > 3 else "")
        return "the stages before it, its warm_start or the animal's MJCF have changed"

    @contextlib.contextmanager
    def _open_folder(self, plan: Plan) -> Iterator[None]:
        """Make the sweep's folder if it is not there, and hold it: no other command may write there meanwhile."""
        with contextlib.ExitStack() as held:
            made = False
            try:
                with contextlib.suppress(FileExistsError):
                    self.folder.mkdir(parents=True)
                    made = True
                held.enter_context(locked(self.folder))
            except BlockingIOError as error:
                raise ConfigError(
                    f"sweep.name={self.folder.name}: another command runs in {self.folder}. Wait for it, or type "
                    "another sweep.name"
                ) from error
            except OSError as error:
                raise ConfigError(
                    f"{self.folder}: cannot be made: {error.strerror}. Type another sweep.name"
                ) from error
            if not made:
                self._check_folder(plan)  # another command may have been at it until now
            yield

    def _open_store(self, plan: Plan) -> None:
        """Make the store before any job starts."""
        from dinorl.tracking import store

        settings = plan.jobs[0].config.tracking
        try:
            store.create_store(settings)
        except ConfigError as error:
            if settings.required:
                raise
            report.say(str(error).partition(")")[0] + "); numbers are kept in the run folders")

    def _open_lineages(self, plan: Plan) -> None:
        """Begin a parent run for each lineage."""
        from dinorl.tracking.lineage import open_lineages

        tags = {}
        for lineage in plan.lineages:
            config = lineage.jobs[0].config
            tags[self.folder / lineage.name] = {
                "species": config.species.name, "algo": config.algo.name, "seed": str(config.seed),
                "lineage": lineage.name, "sweep": self.folder.name,
            }  # fmt: skip
        open_lineages(plan.jobs[0].config.tracking, tags)

    def _close_tracking(self, plan: Plan, states: dict[str, dict[str, Any]]) -> None:
        """End the parent runs by what became of their jobs, and the runs of jobs that could not end their own."""
        from dinorl.tracking.lineage import close_runs

        ends: dict[Path, tuple[str, Mapping[str, str]]] = {}
        for job in plan.jobs:
            if states[job.key].get("lost"):
                ends[self.folder / job.folder] = ("FAILED", {"status": "FAILED"})
            elif states[job.key].get("reused"):  # it may have ended before all was sent
                ends[self.folder / job.folder] = ("", {})
        for lineage in plan.lineages:
            shared = {
                f"shared.{job.index}-{job.stage}": str(states[job.key].get("mlflow_run"))
                for job in lineage.jobs
                if job.lineage != lineage.name
            }
            good = all(states[job.key]["status"] == "DONE" for job in lineage.jobs)
            ends[self.folder / lineage.name] = ("FINISHED" if good else "FAILED", shared)
        if close_runs(ends):
            report.say(
                f"MLflow has not been told everything: python -m dinorl.tracking.send {shlex.quote(str(self.folder))}"
            )

    def _close_interrupted(self, plan: Plan) -> None:
        """End the runs of everything that is not done: who runs beside this process was ended with it."""
        from dinorl.tracking.lineage import HURRIED_TIMEOUT, close_runs

        ends: dict[Path, tuple[str, Mapping[str, str]]] = {
            self.folder / lineage.name: ("KILLED", {}) for lineage in plan.lineages
        }
        for job in plan.jobs:
            folder = self.folder / job.folder
            state = read_status(folder)
            if state is not None and state["status"] == "RUNNING":
                write_status(folder, **state | {"status": "INTERRUPTED", "error": "interrupted with its command"})
                ends[folder] = ("KILLED", {"status": "INTERRUPTED"})
        close_runs(ends, HURRIED_TIMEOUT)

    def _launch_all(self, plan: Plan) -> dict[str, dict[str, Any]]:
        """Launch every level; return each job's final state by its key."""
        states: dict[str, dict[str, Any]] = {}
        done = self._done_before(plan)
        for level in plan.levels():
            waiting = []
            for job in level:
                blocked = self._blocked(job, states)
                if blocked is not None:
                    states[job.key] = blocked
                elif job.key in done:
                    states[job.key] = {**(read_status(self.folder / job.folder) or {}), "reused": True}
                else:
                    waiting.append(job)
            self._launch(waiting, states)
            for job in level:
                self._link_shared(job)
        return states

    def _blocked(self, job: Job, states: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
        """Return why a job cannot run, or None if it can."""
        if job.parent is None:
            return None
        before = states[job.parent.key]
        if before["status"] == "PRUNED":
            return self._prune(job, before["error"])
        if before["status"] != "DONE":
            return {"status": "NOT RUN", "error": f"{job.parent.folder}: {before['status'].lower()}"}
        if before.get("gate") == "stopped_on_budget":
            return self._prune(job, f"{job.parent.folder} did not pass its gate (curriculum.on_budget=stop)")
        return None

    def _prune(self, job: Job, why: str) -> dict[str, Any]:
        return write_status(self.folder / job.folder, status="PRUNED", gate="none", error=why)

    def _launch(self, jobs: Sequence[Job], states: dict[str, dict[str, Any]]) -> None:
        """Launch jobs together; those that come back without a final state, again, each on its own."""
        left = []
        for job in jobs:
            folder = self.folder / job.folder
            if folder.is_symlink():  # another lineage's, that this one shared
                folder.unlink()
            try:  # before its plan is remembered: what another plan was done with is not taken for this one's
                with locked(folder, PATIENCE):
                    (folder / STATUS_FILE).unlink()
            except BlockingIOError:  # a worker that outlived the command that started it
                pid = (read_status(folder) or {}).get("pid", "?")
                error = f"process {pid} trains in {folder} still; end it, or wait for it"
                states[job.key] = {"status": "FAILED", "gate": "none", "error": error}
                continue
            except OSError:
                pass
            left.append(job)
        self._remember(left)
        for attempt in range(self.retries + 1):
            batches = [left] if attempt == 0 else [[job] for job in left]
            left = []
            for batch in filter(None, batches):
                causes = self._launch_batch(batch)
                for job in batch:
                    state = read_status(self.folder / job.folder) or {}
                    if state.get("status") not in FINAL:
                        left.append(job)
                        error = causes.get(job.key) or "it ended without a word"
                        state = {"status": "FAILED", "gate": "none", "error": error, "lost": True}
                    states[job.key] = state
        for job in left:
            with contextlib.suppress(OSError):  # what is in the way of the folder may be what went wrong
                write_status(self.folder / job.folder, **states[job.key])

    def _launch_batch(self, batch: Sequence[Job]) -> dict[str, str]:
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
            report.say(f"launch failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
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
            states = [read_status(self.folder / job.folder) or {} for job in batch]
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
            "hydra.sweep.dir": str(self.folder),
            "hydra.sweep.subdir": job.folder,
            "tracking.sweep": self.folder.name,
            "tracking.lineage": job.lineage,
            "tracking.lineages": ",".join(job.lineages),
            "tracking.parent": str(self.folder / job.lineage),
            "tracking.job": job.key,
        }
        if job.parent is not None:
            own["warm_start"] = str(self.folder / job.parent.folder)
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
        cores = os.cpu_count() or 1
        return max(1, cores // side_by_side) if side_by_side > 0 else 1

    def _link_shared(self, job: Job) -> None:
        """Show a shared job in the folders of the other lineages that it serves."""
        for name in job.lineages:
            link = self.folder / name / f"{job.index}-{job.stage}"
            if name != job.lineage and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path("..") / job.folder, target_is_directory=True)

    def _remember(self, jobs: Sequence[Job]) -> None:
        """Keep which job each run folder belongs to, for the same command given again."""
        write_json(self.folder / PLAN_FILE, self._known() | {job.folder: job.key for job in jobs})

    def _known(self) -> dict[str, str]:
        """Return the key of the job that each run folder belongs to."""
        path = self.folder / PLAN_FILE
        if not path.exists():
            return {}
        try:
            known: dict[str, str] = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{path}: expected what each run folder is, found something else ({error}). Type another sweep.name"
            ) from error
        return known

    def _done_before(self, plan: Plan) -> set[str]:
        """Return the keys of the jobs that need no training any more."""
        known = self._known()
        return {
            job.key
            for job in plan.jobs
            if known.get(job.folder) == job.key
            and (read_status(self.folder / job.folder) or {}).get("status") == "DONE"
        }


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
