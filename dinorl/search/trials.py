"""The trials of a search as a plan: which stages each has, and which are trained once for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dinorl.config import ConfigError, SearchConfig
from dinorl.config.identity import trained_on
from dinorl.config.overrides import Setting
from dinorl.search.space import Space, Values
from dinorl.sweep.plan import Composer, Job, Lineage, Plan, make_plan

# Must be the same for all trials, whatever changes them.
_EQUAL = ("curriculum.timesteps", "eval.episodes", "eval.seed", "eval.every", "eval.start", "species.name")


@dataclass(frozen=True)
class Trial:
    """One point of the space."""

    number: int
    values: Values
    lineages: tuple[Lineage, ...]  # one a seed

    @property
    def name(self) -> str:
        """Its name, such as ``trial-7``."""
        return f"trial-{self.number}"


@dataclass(frozen=True)
class Trials:
    """The trials of a search.

    Attributes:
        plan: all their stages.
        each: the trials.
        first: position in a lineage of the first stage that the space changes.
    """

    plan: Plan
    each: tuple[Trial, ...]
    first: int

    @property
    def budgets(self) -> list[int]:
        """Environment steps of a trial's stages, per seed."""
        return [job.config.curriculum.timesteps for job in self.each[0].lineages[0].jobs[self.first :]]

    def own(self, trial: Trial) -> list[Job]:
        """Return the jobs that a trial trains."""
        return [job for lineage in trial.lineages for job in lineage.jobs[self.first :]]

    def shared(self) -> Plan:
        """Return the plan of the stages before the trials."""
        lineages = [Lineage(lineage.name, lineage.jobs[: self.first]) for lineage in self.plan.lineages]
        owners = [lineage for lineage in lineages if any(job.lineage == lineage.name for job in lineage.jobs)]
        jobs = {job.key: job for lineage in owners for job in lineage.jobs}
        return Plan(tuple(owners), tuple(jobs.values()))


def make_trials(
    space: Space, settings: Sequence[Setting], stages: Sequence[str], options: SearchConfig, values: Sequence[Values],
    compose: Composer,
) -> Trials:  # fmt: skip
    """Compose every stage of every trial and check them together.

    Args:
        space: of the search.
        settings: the fixed ones and the space's.
        stages: to run, in order.
        options: of the search.
        values: of each trial.
        compose: returns a stage's checked config from overrides.

    Raises:
        ConfigError: a config is invalid, or trials could not be compared.
    """
    seeds, settings = _with_seeds(settings, options.seeds)
    own = {axis.key: axis.setting for axis in space.axes}
    named: dict[str, dict[int, str | None]] = {}
    for number, point in enumerate(values):
        chosen: dict[int, str | None] = {id(own[key]): value for key, value in point.items()}
        for value in seeds.values:
            named[f"trial-{number}-s{value}"] = chosen | {id(seeds): value}
    plan = make_plan(settings, stages, compose, named)
    lineages = iter(plan.lineages)
    each = tuple(
        Trial(number, point, tuple(next(lineages) for _ in seeds.values)) for number, point in enumerate(values)
    )
    first = 0 if space.first_stage is None else list(stages).index(space.first_stage)
    made = Trials(plan, each, first)
    _check_comparable(made, space)
    return made


def _with_seeds(settings: Sequence[Setting], count: int) -> tuple[Setting, list[Setting]]:
    """Return the setting of the training seeds, and all settings with it."""
    given = next((s for s in settings if s.name == "seed"), Setting(None, "seed", ("0",), "seed"))
    try:
        first = int(str(given.values[0]))
    except ValueError:
        first = 0  # composing refuses it
        count = 1
    values = tuple(str(first + i) for i in range(count)) if count > 1 else given.values
    seeds = replace(given, values=values)
    return seeds, [seeds, *(s for s in settings if s is not given)]


def _check_comparable(trials: Trials, space: Space) -> None:
    """Check that trials differ, but not in what they are measured by."""
    keys: dict[str, str] = {}
    for trial in trials.each:
        for job, other in zip(trials.own(trial), trials.own(trials.each[0]), strict=True):
            one, first = trained_on(job.config), trained_on(other.config)
            for key in _EQUAL:
                if one[key] != first[key]:
                    raise ConfigError(
                        f"trial {trial.number} ({shown(trial.values)}) has {one[key]}, trial 0 has {first[key]}: "
                        "trials are compared at equal steps and episodes",
                        key=key, hint=f"Type {key}=… for all",
                    )  # fmt: skip
        keys_of_trial = ",".join(job.key for job in trials.own(trial))
        if keys_of_trial in keys:
            raise ConfigError(
                f"{shown(trial.values)} and {keys[keys_of_trial]} are the same training",
                key=space.axes[0].key, hint="Remove the values or keys that change nothing",
            )  # fmt: skip
        keys[keys_of_trial] = shown(trial.values)


def shown(values: Mapping[str, str]) -> str:
    """Return values as typed."""
    return " ".join(f"{key}={value}" for key, value in values.items())
