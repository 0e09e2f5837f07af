"""Runs a plan: checks all of it first, then launches it level by level through Hydra's launcher."""

from __future__ import annotations

import contextlib
import re
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dinorl.config import CONFIG_NAME, Config, ConfigError, build
from dinorl.config.errors import unknown_key, wrong_value
from dinorl.config.explain import SCOPES, check_options, explain
from dinorl.config.overrides import read_settings
from dinorl.files.run_folder import read_status, write_status
from dinorl.sweep import report
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.launch import Launching
from dinorl.sweep.plan import Job, Plan, check_fits, make_plan
from dinorl.tracking.terminal import say

PLANNING_GROUP, PLANNING_NODE = "planning", "scopes"


@dataclass(frozen=True)
class SweepConfig:
    """``sweep.*``: what is said of the command, not of a stage."""

    name: str | None = None  # of the sweep's folder below outputs/; null: the time and a short id
    retries: int = 1  # how often a job is tried again whose process ended without a word
    isolate: bool = True  # each job in a process of its own; false: in the command's, for a debugger

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
        isolate = node.get("isolate", cls.isolate)
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise wrong_value("sweep.retries", retries, "a whole number 0 or more", 1)
        if not isinstance(isolate, bool):
            raise wrong_value("sweep.isolate", isolate, "true or false", "false")
        if name is not None and not isinstance(name, str | int | float):
            raise wrong_value("sweep.name", name, "the name of a folder below outputs/", "first")
        name = None if name is None else str(name)
        if name is not None and (not re.fullmatch(r"[^/\\\s.-][^/\\\x00-\x1f]*", name) or len(name.encode()) > 200):
            raise wrong_value("sweep.name", name, "the name of a folder below outputs/", "first")
        return cls(name, retries, isolate)


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
        task: what a launcher runs, :func:`dinorl.sweep.job.run`.
        config: the first composition.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = context, config
        settings = SweepConfig.of(config.sweep)
        self.folder = SweepFolder(Path(config.hydra.sweep.dir).absolute(), resume=config.resume)
        self.launching = Launching(context, task, config, self.folder, settings.retries, settings.isolate)

    def run(self, arguments: list[str]) -> None:
        """Plan, check, launch, report.

        Raises:
            ConfigError: something in the arguments is wrong; nothing has been written then.
            JobsFailed: some jobs did not come to their end; the others did.
        """
        with without_planning_keys():
            plan = self._plan(arguments)
            self._check_files(plan)
            self.folder.check(plan)
            if self.config.plan_only:
                report.print_plan(plan, done=self.folder.done(plan))
                return
            self.launching.prepare()
            self._open_store(plan)
            with self.folder.held(plan):
                done = self.folder.done(plan)
                report.print_plan(plan, self.folder.path, done)
                self._open_lineages(plan)
                try:
                    states = self._launch_all(plan, done)
                except KeyboardInterrupt:
                    self._close_interrupted(plan)
                    say(f"interrupted; sweep.name={self.folder.path.name} with the same overrides goes on")
                    raise
                self._close_tracking(plan, states)
        report.print_results(plan, states, self.folder.path)
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
        from dinorl.bundle.locate import resolve
        from dinorl.envs.mirror import mirror_of
        from dinorl.sim.model import Animal

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
        from dinorl.bundle import bundle  # brings torch, which takes seconds: only for those who start from one

        check_fits(bundle.load_config(source), job.config, job.stage)
        bundle.check_hand_over(source)

    def _open_store(self, plan: Plan) -> None:
        """Make the store before any job starts."""
        from dinorl.tracking import store

        settings = plan.jobs[0].config.tracking
        try:
            self.launching.call(store.create_store, settings)
        except ConfigError as error:
            if settings.required:
                raise
            say(str(error).partition(")")[0] + "); numbers are kept in the run folders")

    def _open_lineages(self, plan: Plan) -> None:
        """Begin a parent run for each lineage."""
        from dinorl.tracking.lineage import open_lineages

        tags = {}
        for lineage in plan.lineages:
            config = lineage.jobs[0].config
            tags[self.folder.path / lineage.name] = {
                "species": config.species.name, "algo": config.algo.name, "seed": str(config.seed),
                "lineage": lineage.name, "sweep": self.folder.path.name,
            }  # fmt: skip
        self.launching.call(open_lineages, plan.jobs[0].config.tracking, tags)

    def _close_tracking(self, plan: Plan, states: dict[str, dict[str, Any]]) -> None:
        """End the parent runs by what became of their jobs, and the runs of jobs that could not end their own."""
        from dinorl.tracking.lineage import close_runs

        ends: dict[Path, tuple[str, Mapping[str, str]]] = {}
        for job in plan.jobs:
            if states[job.key].get("lost"):
                ends[self.folder.run_dir(job)] = ("FAILED", {"status": "FAILED"})
            elif states[job.key].get("reused"):  # it may have ended before all was sent
                ends[self.folder.run_dir(job)] = ("", {})
        for lineage in plan.lineages:
            shared = {
                f"shared.{job.index}-{job.stage}": str(states[job.key].get("mlflow_run"))
                for job in lineage.jobs
                if job.lineage != lineage.name
            }
            good = all(states[job.key]["status"] == "DONE" for job in lineage.jobs)
            ends[self.folder.path / lineage.name] = ("FINISHED" if good else "FAILED", shared)
        if self.launching.call(close_runs, ends):
            where = shlex.quote(str(self.folder.path))
            say(f"MLflow has not been told everything: dinorl send {where}")

    def _close_interrupted(self, plan: Plan) -> None:
        """End the runs of everything that is not done: who runs beside this process was ended with it."""
        from dinorl.tracking.lineage import HURRIED_TIMEOUT, close_runs

        ends: dict[Path, tuple[str, Mapping[str, str]]] = {
            self.folder.path / lineage.name: ("KILLED", {}) for lineage in plan.lineages
        }
        for job in plan.jobs:
            folder = self.folder.run_dir(job)
            state = read_status(folder)
            if state is not None and state["status"] == "RUNNING":
                write_status(folder, **state | {"status": "INTERRUPTED", "error": "interrupted with its command"})
                ends[folder] = ("KILLED", {"status": "INTERRUPTED"})
        self.launching.call(close_runs, ends, HURRIED_TIMEOUT)

    def _launch_all(self, plan: Plan, done: Set[str]) -> dict[str, dict[str, Any]]:
        """Launch every level, but for jobs that are done (keys); return each job's final state by its key."""
        states: dict[str, dict[str, Any]] = {}
        for level in plan.levels():
            waiting = []
            for job in level:
                blocked = self._blocked(job, states)
                if blocked is not None:
                    states[job.key] = blocked
                elif job.key in done:
                    states[job.key] = {**(read_status(self.folder.run_dir(job)) or {}), "reused": True}
                else:
                    waiting.append(job)
            self.launching.launch(waiting, states)
            for job in level:
                self.folder.link_shared(job)
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
        return write_status(self.folder.run_dir(job), status="PRUNED", gate="none", error=why)
