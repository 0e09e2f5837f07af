"""``hydra/sweeper=search``: checks a search, runs its trials and reports what it found."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dinorl.config import Config, ConfigError, SearchConfig
from dinorl.config.overrides import Setting, read_settings
from dinorl.files.run_folder import RunFolder, read_status, write_status
from dinorl.search import report
from dinorl.search.journal import CONTINUE, END, PRUNE, Journal, Memory, Report
from dinorl.search.outcome import Outcome
from dinorl.search.records import Records
from dinorl.search.score import RETURN, check_metric
from dinorl.search.space import Space
from dinorl.search.trials import Trial, Trials, make_trials
from dinorl.sweep.launch import BASIC_LAUNCHER
from dinorl.sweep.plan import Job
from dinorl.sweep.run import JobsFailed, Sweep
from dinorl.sweep.settings import without_planning_keys
from dinorl.tracking.store import uri_of
from dinorl.tracking.terminal import say

log = logging.getLogger(__name__)


class Search(Sweep):
    """A pruned search on Ray Tune.

    Args:
        context, task, config: see :class:`dinorl.sweep.run.Sweep`.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        super().__init__(context, task, config)
        self._configs: dict[tuple[str, ...], Config] = {}

    def run(self, arguments: list[str]) -> None:
        """Plan, check, run the trials and report.

        Raises:
            ConfigError: the arguments are wrong; nothing was written.
            JobsFailed: some trials failed; the others are over.
        """
        with without_planning_keys():
            self.options = SearchConfig.of(self.config.search)
            settings, stages = self._settings(arguments)
            self.space = Space.of(settings)
            self._check_options()
            trials = self._trials(settings, stages)
            self._check_files(trials.plan)
            self.grace = self.options.grace or trials.each[0].lineages[0].jobs[trials.first].config.eval.every
            self._check_grace(trials)
            self.folder.check(trials.plan)
            memory = Memory(self.folder.path)
            saved = asdict(self.options), {axis.key: axis.text() for axis in self.space.axes}
            values = [trial.values for trial in trials.each]
            memory.check(*saved, values)
            report.print_plan(trials, self.space.axes, settings, self.options, self.grace)
            if self.config.plan_only:
                say(f"numbers would be in {uri_of(trials.plan.jobs[0].config.tracking)}")
                return
            self.launching.prepare()
            self.runs.create_store(trials.plan)
            with self.folder.held(trials.plan):
                memory.check(*saved, values)
                memory.write(*saved, values)
                journal = Journal(self.folder.path)
                records = Records(self.folder, trials, self.launching.call)
                try:
                    records.open()
                    self._run(trials, journal)
                    outcome = Outcome.of(trials, self.space.axes, journal, self.folder.path, self.options)
                    report.write(outcome, self.space.axes, self.folder.path)
                    records.close(outcome, journal)
                except BaseException as error:
                    records.close_interrupted()
                    if isinstance(error, KeyboardInterrupt):
                        name = self.folder.path.name
                        say(f"interrupted; to resume, type the same overrides with sweep.name={name}")
                    raise
        command = report.winning_command(outcome, settings, stages, self.options)
        report.print_outcome(outcome, self.space.axes, self.folder.path, command)
        if outcome.failed:
            raise JobsFailed(f"{len(outcome.failed)} of {len(trials.each)} trials failed")

    # What is checked before anything starts ---------------------------------------------------------------------------

    def _settings(self, arguments: list[str]) -> tuple[list[Setting], list[str]]:
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        return read_settings(parser.parse_overrides(arguments), search=True)

    def _check_options(self) -> None:
        options = self.options
        check_metric(options.metric)
        if options.scheduler == "pbt":
            raise ConfigError(
                "population based training changes keys within a run, so that no command could repeat its result",
                key="search.scheduler", found="pbt", expected="one of asha, median, none",
            )  # fmt: skip
        if options.algorithm == "optuna" and importlib.util.find_spec("optuna") is None:
            raise ConfigError(
                "Optuna is not installed", key="search.algorithm", found="optuna",
                hint="Type pip install optuna, or search.algorithm=random",
            )  # fmt: skip
        launcher = self.config.hydra.launcher
        if launcher._target_ != BASIC_LAUNCHER and OmegaConf.select(launcher, "ray") is None:
            raise ConfigError(
                "a search runs on Ray", key="hydra/launcher", hint="Remove it, and type search.jobs=2 for two at once"
            )

    def _trials(self, settings: Sequence[Setting], stages: Sequence[str]) -> Trials:
        """Return the trials; each key's ends are checked, too, and what a warm start fixes."""
        first = {axis.key: axis.choices[0] for axis in self.space.axes}
        base = make_trials(self.space, settings, stages, self.options, [first], self._composed)
        self.space.check_warm_start(base.own(base.each[0])[0])
        make_trials(self.space, settings, stages, self.options, list(self.space.ends()), self._composed)
        return make_trials(self.space, settings, stages, self.options, self.space.draw(self.options), self._composed)

    def _composed(self, overrides: list[str]) -> Config:
        """Compose a stage; each once."""
        key = tuple(overrides)
        if key not in self._configs:
            self._configs[key] = self._compose(overrides)
        return self._configs[key]

    def _check_grace(self, trials: Trials) -> None:
        budget = sum(trials.budgets)
        if self.grace > budget:
            raise ConfigError(
                f"a trial has only {budget:,} environment steps", key="search.grace", found=str(self.grace),
                hint=f"Type e.g. search.grace={max(1, budget // 10)}",
            )  # fmt: skip
        rewards = [axis.key for axis in self.space.axes if axis.setting.name.startswith("env.")]
        if rewards and self.options.metric == RETURN:
            say(f"doubt: {', '.join(rewards)} may change the return itself, by which trials are compared; "
                "search.metric=forward_speed_mean_mps, say, would not be changed")  # fmt: skip

    # Running ----------------------------------------------------------------------------------------------------------

    def _run(self, trials: Trials, journal: Journal) -> None:
        shared = trials.shared()
        if shared.jobs:
            states = self._launch_all(shared, self.folder.done(shared))
            if any(state["status"] != "DONE" for state in states.values()):
                raise JobsFailed("the stages before the trials failed: see their status.json")
        left = self._unfinished(trials, journal)
        if not left:
            return
        self._clear(trials, left)
        from joblib import cpu_count

        from dinorl.search.judge import Judge
        from dinorl.search.tuning import ray_running, run_trials

        budget, usable = sum(trials.budgets), cpu_count()
        judge = Judge(self.options, self.grace, budget, journal)
        threads = left[0].lineages[0].jobs[-1].config.sim.threads
        alone = self.options.jobs == 1 and not threads
        cpus = usable if alone else threads or 1

        def receive(given: Report) -> str:
            decision, new = judge.decide(given)
            if new:
                say(_line(given, decision, len(trials.each), budget))
                if given.failed:
                    self._mark_lost(trials.own(trials.each[given.trial]), given.failed)
            return decision

        specs = self._specs(trials, left, 0 if alone else cpus)
        jobs = [job for trial in left for job in trials.own(trial)]
        with ray_running(self.config, usable), self.launching._interrupting(jobs):
            run_trials(specs, len(left), receive, min(cpus, usable), self.options.jobs, self.launching.retries)

    def _unfinished(self, trials: Trials, journal: Journal) -> list[Trial]:
        """Return the trials that are not over, and those whose end did not reach their run folders."""
        ends = {entry.report.trial: entry for entry in journal.entries}
        left = []
        for trial in trials.each:
            entry = ends.get(trial.number)
            over = entry is not None and entry.decision in (PRUNE, END) and not entry.report.failed
            if not over or not all(self._settled(job) for job in trials.own(trial)):
                left.append(trial)
        return left

    def _settled(self, job: Job) -> bool:
        state = read_status(self.folder.run_dir(job))
        return state is None or state.get("status") in ("DONE", "PRUNED")

    def _clear(self, trials: Trials, left: Sequence[Trial]) -> None:
        """Delete statuses of other plans, and of failed stages, and remember whose each folder is."""
        jobs = [job for trial in left for job in trials.own(trial)]
        known = self.folder._known()
        for job in jobs:
            state = read_status(self.folder.run_dir(job)) or {}
            if known.get(job.folder) != job.key or state.get("status") == "FAILED":
                with contextlib.suppress(OSError):
                    RunFolder(self.folder.run_dir(job)).status.unlink()
        self.folder.remember(jobs)

    def _specs(self, trials: Trials, left: Sequence[Trial], threads: int) -> Iterator[Any]:
        """Yield what Tune needs of each trial, when it can start."""
        from dinorl.search.tuning import Spec

        for trial in left:
            seeds = tuple(
                tuple(self._hydra_config(job, threads) for job in lineage.jobs[trials.first :])
                for lineage in trial.lineages
            )
            yield Spec(trial.number, self.options.metric, seeds)

    def _hydra_config(self, job: Job, threads: int) -> DictConfig:
        """Return a job's config with Hydra's, as its launchers load it."""
        overrides = self.launching._job_overrides(job)
        if threads and not job.config.sim.threads:
            overrides = [*(o for o in overrides if not o.startswith("sim.threads=")), f"sim.threads={threads}"]
        config: DictConfig = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = 0
        return config

    def _mark_lost(self, jobs: Sequence[Job], error: str) -> None:
        """Write FAILED for stages whose processes died."""
        for job in jobs:
            folder = self.folder.run_dir(job)
            state = read_status(folder)
            if state is not None and state["status"] == "RUNNING":
                write_status(folder, **state | {"status": "FAILED", "gate": "none", "error": error})


def _line(given: Report, decision: str, count: int, budget: int) -> str:
    """Return a line on a report."""
    if given.failed:
        return f"trial {given.trial} of {count}: FAILED: {given.failed}"
    head = f"trial {given.trial} of {count}: {given.steps:,} of {budget:,} steps, score {given.score:.1f}"
    if decision == END:
        return f"{head}, {'passed' if given.passed else 'finished'}"
    return head + ("" if decision == CONTINUE else ", pruned")
