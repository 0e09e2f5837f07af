"""Runs a sweep: checks the whole plan, then launches its jobs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dinorl.config import Config, ConfigError, SweepConfig, build
from dinorl.config.composer import Composer
from dinorl.config.explain import check_options, explain
from dinorl.config.overrides import read_settings
from dinorl.config.species import same_model
from dinorl.sweep import report
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.launch import Launching
from dinorl.sweep.lineages import LineageRuns
from dinorl.sweep.plan import Job, Plan, check_fits, make_plan
from dinorl.sweep.settings import without_planning_keys
from dinorl.tracking import system
from dinorl.tracking.store import uri_of
from dinorl.tracking.terminal import say


class JobsFailed(RuntimeError):
    """Some jobs of a sweep failed; the report lists them."""


class Sweep:
    """All curricula of one command.

    Args:
        context: Hydra's, for composing and launching.
        task: the launchers' task function, :func:`dinorl.sweep.job.run`.
        config: the first composition.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = context, config
        settings = SweepConfig.of(config.sweep)
        self.folder = SweepFolder(Path(config.hydra.sweep.dir).absolute(), resume=config.resume)
        self.launching = Launching(context, task, config, self.folder, settings)
        self.runs = LineageRuns(self.folder, self.launching.call)

    def run(self, arguments: list[str]) -> None:
        """Plan, check, launch and report.

        Raises:
            ConfigError: the arguments are wrong; nothing was written.
            JobsFailed: some jobs failed; the others are done.
        """
        with without_planning_keys():
            plan = self._plan(arguments)
            self._check_files(plan)
            self.folder.check(plan)
            store = uri_of(plan.jobs[0].config.tracking)
            if "${" in str(self.folder.path):
                raise ConfigError(
                    f"{self.folder.path}: Hydra would interpolate its ${{…}}. Run dinorl in another folder"
                )
            if self.config.plan_only:
                report.print_plan(plan, store, done=self.folder.done(plan))
                return
            if len(self.folder.done(plan)) < len(plan.jobs):
                self.launching.prepare()
            self.launching.check_devices(plan)
            self.runs.create_store(plan)
            with self.folder.held(plan), self.launching.connected(plan.jobs[0].config.tracking):
                done = self.folder.done(plan)
                report.print_plan(plan, store, self.folder.path, done)
                try:
                    self.runs.open(plan)
                    states = self.launching.run(plan, done, self.runs.job_over)
                    self.runs.close(plan, states)
                except BaseException as error:
                    self.runs.close_interrupted(plan)
                    if isinstance(error, KeyboardInterrupt):
                        say(f"interrupted; to resume, type the same overrides with sweep.name={self.folder.path.name}")
                    raise
        report.print_results(plan, states, self.folder.path)
        failed = sum(state["status"] in ("FAILED", "NOT RUN") for state in states.values())
        if failed:
            raise JobsFailed(f"{failed} of {len(states)} jobs failed or were not run")

    def _plan(self, arguments: list[str]) -> Plan:
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        settings, stages = read_settings(parser.parse_overrides(arguments))
        return make_plan(settings, stages, self._compose)

    @cached_property
    def _composer(self) -> Composer:
        # Hydra gives a sweeper only the other overrides
        searchpath = [o for o in self.config.hydra.overrides.hydra if o.startswith("hydra.searchpath=")]
        return Composer(self.context.config_loader, searchpath)

    def _compose(self, overrides: list[str]) -> Config:
        check_options(overrides)
        try:
            return build(self._composer(overrides))
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise explain(error, overrides) from error

    def _check_files(self, plan: Plan) -> None:
        """Check every animal's body, that bundles exist and system metrics can be read; print what is doubtful."""
        from dinorl.sim.check import check_bodies

        for job in plan.jobs:
            system.check(job.config.tracking)
        for doubt in check_bodies(job.config for job in plan.jobs):
            say(doubt)
        for job in plan.jobs:
            if job.parent is None and job.config.warm_start is not None:
                self._check_start(job.config.warm_start, job)

    def _check_start(self, warm_start: str, job: Job) -> None:
        """Check that a bundle is valid and of the same animal, algorithm and network."""
        from dinorl.bundle.bundle import Bundle

        bundle = Bundle.open(warm_start).following(job.config.species)
        check_fits(bundle.config, job.config, job.stage)
        bundle.check_hand_over()
        if not same_model(bundle.meta["mjcf_sha256"], job.config.species):
            say(f"doubt: warm_start={warm_start}: it was trained on another model than {job.config.species.mjcf}")
