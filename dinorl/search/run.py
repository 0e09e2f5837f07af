"""``hydra/sweeper=search``: checks a search, runs its trials and reports what it found."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dinorl.config import Config, ConfigError, SearchConfig
from dinorl.config.overrides import read_settings
from dinorl.files.run_folder import RunFolder, read_status, write_status
from dinorl.search import report
from dinorl.search.journal import CONTINUE, END, PAUSE, PRUNE, Journal, Memory, Report, Takeover
from dinorl.search.outcome import Outcome
from dinorl.search.population import Population, check_population
from dinorl.search.records import Records
from dinorl.search.score import RETURN, check_metric
from dinorl.search.space import Space, Values
from dinorl.search.trials import Trial, Trials, make_trials, shown
from dinorl.sweep.launch import interrupting
from dinorl.sweep.plan import Job
from dinorl.sweep.run import JobsFailed, Sweep
from dinorl.sweep.settings import without_planning_keys
from dinorl.sweep.workers import BASIC, RAY, JobsHere
from dinorl.tracking.store import uri_of
from dinorl.tracking.terminal import say
from dinorl.training import resume

if TYPE_CHECKING:
    from dinorl.search.tuning import Spec


class Search(Sweep):
    """A pruned search on Ray Tune.

    Args:
        context, task, config: see :class:`dinorl.sweep.run.Sweep`.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        super().__init__(context, task, config)
        self.options = SearchConfig.of(config.search)
        self.memory = Memory(self.folder.path)
        self._configs: dict[tuple[str, ...], Config] = {}

    def run(self, arguments: list[str]) -> None:
        """Plan, check, run the trials and report.

        Raises:
            ConfigError: the arguments are wrong; nothing was written.
            JobsFailed: some trials failed; the others are over.
        """
        with without_planning_keys():
            parser = OverridesParser.create(config_loader=self.context.config_loader)
            self.settings, self.stages = read_settings(parser.parse_overrides(arguments), search=True)
            self.space = Space.of(self.settings)
            self._check_options()
            self.trials = self._first_trials()
            self._check_files(self.trials.plan)
            self.folder.check(self.trials.plan)
            count = self.options.samples if self.options.algorithm == "optuna" else len(self.trials.each)
            report.print_plan(self.trials, count, self.space.axes, self.settings, self.options, self.grace)
            if self.config.plan_only:
                say(f"numbers would be in {uri_of(self.trials.plan.jobs[0].config.tracking)}")
                return
            if self.trials.shared().jobs:  # trials have their actors
                self.launching.prepare()
            self.launching.check_devices(self.trials.plan)
            self.runs.create_store(self.trials.plan)
            with self.folder.held(self.trials.plan):
                outcome = self._run_recorded(count)
        report.print_outcome(outcome, self.space.axes, self.folder.path, self._winner(outcome))
        if outcome.failed:
            raise JobsFailed(f"{len(outcome.failed)} of {len(outcome.rows)} trials failed")

    def _run_recorded(self, count: int) -> Outcome:
        """Run the trials with MLflow's runs open, and write the report."""
        self._remember()
        journal = Journal(self.folder.path)
        about = {f"search.{key}": str(value) for key, value in asdict(self.options).items()}
        about |= {axis.key: axis.text() for axis in self.space.axes}
        records = Records(self.folder, self.launching.call, about)
        try:
            records.open(self.trials)
            self._run(count, journal, records)
            outcome = Outcome.of(self.trials, self.space.axes, journal, self.folder.path, self.options)
            report.write(outcome, self.space.axes, self.folder.path)
            note = report.note(outcome, self.space.axes, self._winner(outcome), records.command)
            records.close(self.trials, outcome, journal, note)
        except BaseException as error:
            records.close_interrupted(self.trials)
            if isinstance(error, KeyboardInterrupt):
                say(f"interrupted; to resume, type the same overrides with sweep.name={self.folder.path.name}")
            raise
        return outcome

    def _winner(self, outcome: Outcome) -> str:
        return report.winning_command(outcome, self.settings, self.stages, self.options)

    # What is checked before anything starts ---------------------------------------------------------------------------

    def _check_options(self) -> None:
        options = self.options
        check_metric(options.metric)
        if options.algorithm == "optuna" and not _can_import("optuna"):
            raise ConfigError(
                "Optuna is not installed", key="search.algorithm", found="optuna",
                hint="Type pip install optuna, or search.algorithm=random",
            )  # fmt: skip
        launcher = self.config.hydra.launcher
        if launcher._target_ not in (BASIC, RAY):
            raise ConfigError(
                "a search runs on Ray", key="hydra/launcher", hint="Remove it, and type search.jobs=2 for two at once"
            )

    def _first_trials(self) -> Trials:
        """Return the trials that are known beforehand; each key's ends are checked, too."""
        first = {axis.key: axis.choices[0] for axis in self.space.axes}
        base = self._trials([first])
        own = base.own(base.each[0])
        self.space.check_warm_start(own[0])
        if self.options.scheduler == "pbt":
            check_population(own[0].config, self.space.axes, self.options, len(base.budgets))
        self._trials(list(self.space.ends()))
        self.grace = self.options.grace or own[0].config.eval.every
        self._check_grace(sum(base.budgets))
        if self.options.algorithm != "optuna":
            values = self.space.draw(self.options)
            self.memory.check(*self._saved(), values)
            return self._trials(values)
        self.memory.check(*self._saved(), None)
        before = self.memory.read() or {"trials": []}
        return self._trials(before["trials"] or self._asked([], None))

    def _trials(self, values: Sequence[Values]) -> Trials:
        return make_trials(self.space, self.settings, self.stages, self.options, values, self._composed)

    def _composed(self, overrides: list[str]) -> Config:
        """Compose a stage; each once."""
        key = tuple(overrides)
        if key not in self._configs:
            self._configs[key] = self._compose(overrides)
        return self._configs[key]

    def _check_grace(self, budget: int) -> None:
        if self.grace > budget:
            raise ConfigError(
                f"a trial has only {budget:,} environment steps", key="search.grace", found=str(self.grace),
                hint=f"Type e.g. search.grace={max(1, budget // 10)}",
            )  # fmt: skip
        rewards = [axis.key for axis in self.space.axes if axis.setting.name.startswith("env.")]
        if rewards and self.options.metric == RETURN:
            say(
                f"doubt: {', '.join(rewards)} may change the return itself, by which trials are compared; a metric "
                "that it does not change is better, such as search.metric=forward_speed_mean_mps"
            )

    # Memory -----------------------------------------------------------------------------------------------------------

    def _saved(self) -> tuple[dict[str, object], dict[str, str]]:
        return asdict(self.options), {axis.key: axis.text() for axis in self.space.axes}

    def _remember(self) -> None:
        self.memory.check(*self._saved(), None)  # another command may have written since
        self.memory.write(*self._saved(), [trial.values for trial in self.trials.each])

    def _asked(self, values: list[Values], journal: Journal | None) -> list[Values]:
        """Return the values with those of one more trial, which Optuna gives; the same ones if it gives none."""
        from dinorl.search.ask import ask

        entries = journal.entries if journal is not None else []
        answer = ask(self.space, values, entries, self.options.seed)
        return values if answer is None else [*values, answer]

    # Running ----------------------------------------------------------------------------------------------------------

    def _run(self, count: int, journal: Journal, records: Records) -> None:
        shared = self.trials.shared()
        if shared.jobs:
            with self.launching.connected(shared.jobs[0].config.tracking):
                states = self.launching.run(shared, self.folder.done(shared))
            if any(state["status"] != "DONE" for state in states.values()):
                raise JobsFailed("the stages before the trials failed: see their train.log")
        left = self._unfinished(journal)
        more = max(0, count - len(self.trials.each))  # of Optuna
        if not left and not more:
            return
        self._clear(left)
        from joblib import cpu_count

        from dinorl.search.judge import Judge
        from dinorl.search.tuning import ray_running, run_trials

        budget, usable = sum(self.trials.budgets), cpu_count()
        judge = Judge(self.options, self.grace, budget, journal)
        threads = self.trials.each[0].lineages[0].jobs[-1].config.sim.threads
        alone = self.options.jobs == 1 and not threads
        cpus = usable if alone else threads or 1
        population = self._population(budget, journal)

        def receive(given: Report) -> str:
            decision, new = judge.decide(given)
            if new:
                say(_line(given, decision, count, budget))
                if given.failed:
                    self._mark_lost(self.trials.each[given.trial], given.failed)
            if decision == CONTINUE and population is not None and population.pauses(given):
                return PAUSE
            return decision

        jobs = [job for trial in left for job in self.trials.own(trial)]
        specs: Iterator[Spec | None] = self._specs(left, more, jobs, 0 if alone else cpus, journal, records)
        starts = len(left) + more
        if population is not None:
            specs, starts = self._members(population, 0 if alone else cpus), population.most()
        here = JobsHere(self.folder, jobs)
        with ray_running(self.config.hydra.launcher, usable, self.folder.path), interrupting(here):
            run_trials(specs, starts, receive, min(cpus, usable), self.options.jobs, self.launching.retries)

    def _population(self, budget: int, journal: Journal) -> Population | None:
        if self.options.scheduler != "pbt":
            return None
        values = [trial.values for trial in self.trials.each]
        return Population(self.space.axes, values, self.options, self.grace, budget, journal)

    def _unfinished(self, journal: Journal) -> list[Trial]:
        """Return the trials that are not over, and those whose end did not reach their run folders."""
        ends = {entry.report.trial: entry for entry in journal.entries}
        left = []
        for trial in self.trials.each:
            entry = ends.get(trial.number)
            over = entry is not None and entry.decision in (PRUNE, END) and not entry.report.failed
            if not over or not all(self._settled(job) for job in self.trials.own(trial)):
                left.append(trial)
        return left

    def _settled(self, job: Job) -> bool:
        state = read_status(self.folder.run_dir(job))
        return state is None or state.get("status") in ("DONE", "PRUNED")

    def _clear(self, trials: Sequence[Trial]) -> None:
        """Delete statuses of other plans and of failed stages, and remember whose each folder is."""
        jobs = [job for trial in trials for job in self.trials.own(trial)]
        known = self.folder._known()
        for job in jobs:
            state = read_status(self.folder.run_dir(job)) or {}
            if known.get(job.folder) != job.key or state.get("status") == "FAILED":
                with contextlib.suppress(OSError):
                    RunFolder(self.folder.run_dir(job)).status.unlink()
        self.folder.remember(jobs)

    def _specs(
        self, left: Sequence[Trial], more: int, jobs: list[Job], threads: int, journal: Journal, records: Records
    ) -> Iterator[Spec]:
        """Yield what Tune needs of each trial, when it can start.

        Args:
            left: trials that are known.
            more: trials to ask Optuna for.
            jobs: receives their stages.
            threads: per trial; 0: as configured.
            journal, records: of the search.
        """
        for trial in left:
            yield self._spec(trial, threads)
        for _ in range(more):
            values = [trial.values for trial in self.trials.each]
            asked = self._asked(values, journal)
            if asked == values:
                say("Optuna gives no trial that is not there already; the search ends with these")
                return
            self.trials = self._trials(asked)
            self._remember()
            trial = self.trials.each[-1]
            jobs += self.trials.own(trial)
            for job in self.trials.shared().jobs:
                self.folder.link_shared(job)
            records.open(self.trials, [trial])
            self._clear([trial])
            yield self._spec(trial, threads)

    def _members(self, population: Population, threads: int) -> Iterator[Spec | None]:
        """Yield what Tune needs of each member that starts or resumes; None while others train.

        Args:
            population: decides.
            threads: see :meth:`_specs`.
        """
        from dinorl.search.tuning import Spec

        jobs = [self.trials.own(trial)[0] for trial in self.trials.each]

        def take_over(one: Takeover) -> None:
            tracking: Any = OmegaConf.to_container(self._hydra_config(jobs[one.trial], threads).tracking, resolve=True)
            resume.take_over(self.folder.run_dir(jobs[one.trial]), self.folder.run_dir(jobs[one.source]), tracking)
            say(f"trial {one.trial} resumes from trial {one.source} with {shown(one.values)}")

        for number in population.rounds(take_over):
            if number is None:
                yield None
                continue
            one = self._trials([population.values(number)])
            now = one.own(one.each[0])[0]
            job = replace(jobs[number], overrides=now.overrides, config=now.config)  # the member's key remains
            yield Spec(number, self.options.metric, ((self._hydra_config(job, threads),),), population.goal)

    def _spec(self, trial: Trial, threads: int) -> Spec:
        from dinorl.search.tuning import Spec

        seeds = tuple(
            tuple(self._hydra_config(job, threads) for job in lineage.jobs[self.trials.first :])
            for lineage in trial.lineages
        )
        return Spec(trial.number, self.options.metric, seeds)

    def _hydra_config(self, job: Job, threads: int) -> DictConfig:
        """Return a job's config with Hydra's, as its launchers load it."""
        overrides = self.launching.overrides(job)
        if threads and not job.config.sim.threads:
            overrides = [*(o for o in overrides if not o.startswith("sim.threads=")), f"sim.threads={threads}"]
        config: DictConfig = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = 0
        return config

    def _mark_lost(self, trial: Trial, error: str) -> None:
        """Write FAILED for a trial's stages whose processes died."""
        for job in self.trials.own(trial):
            folder = self.folder.run_dir(job)
            state = read_status(folder)
            if state is not None and state["status"] == "RUNNING":
                write_status(folder, **state | {"status": "FAILED", "gate": "none", "error": error})


def _can_import(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _line(given: Report, decision: str, count: int, budget: int) -> str:
    """Return a line on a report."""
    if given.failed:
        return f"trial {given.trial} of {count}: FAILED: {given.failed}"
    head = f"trial {given.trial} of {count}: {given.steps:,} of {budget:,} steps, score {given.score:.1f}"
    if decision == END:
        return f"{head}, {'passed' if given.passed else 'finished'}"
    return head + ("" if decision == CONTINUE else ", pruned")
