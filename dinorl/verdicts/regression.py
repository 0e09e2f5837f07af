"""Compares curricula on a changed recipe with curricula on the recipe before, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinorl.config import Config, ConfigError
from dinorl.evaluation.metrics import Metric
from dinorl.verdicts import statistics
from dinorl.verdicts.comparison import (
    GATE_STEPS,
    LEAST_SEEDS,
    PASSED,
    RETURNS,
    compare,
    curve_keys,
    default_metric,
)
from dinorl.verdicts.notes import GATE, differing_keys, list_of
from dinorl.verdicts.recipe_text import text_of
from dinorl.verdicts.records import Curves, StageRun, read_curves, read_runs
from dinorl.verdicts.selection import Selection
from dinorl.verdicts.statistics import Interval
from dinorl.verdicts.values import (
    Changes,
    check_equal,
    differences,
    in_recipe,
    newest_by_seed,
    trained_values,
    typed,
    typed_overrides,
    values_of,
)

WORSE, BETTER, EQUAL, UNCLEAR = "worse", "better", "equal", "cannot tell"
BEFORE, NOW = "before", "now"
ByStage = Mapping[str, list[StageRun]]


@dataclass(frozen=True)
class Baseline:
    """Runs of one animal and algorithm that a changed recipe is compared with.

    Attributes:
        name: of their sweep, or the selection.
        runs: by stage, one a seed.
        changes: old and new value of the recipe's keys, by stage.
        notes: what a reader must know, a sentence each.
        setup_differs: simulation or evaluations are others than today's.
    """

    name: str
    runs: ByStage
    changes: Mapping[str, Changes]
    notes: tuple[str, ...] = ()
    setup_differs: bool = False

    def __str__(self) -> str:
        changed = [
            f"{runs[0].tags['stage_index']}.{key} {text_of(old)} → {text_of(new)}"
            for stage, runs in self.runs.items()
            for key, (old, new) in self.changes[stage].items()
        ]
        seeds = ", ".join(str(run.seed) for run in next(iter(self.runs.values())))
        return f"{self.name} (seeds {seeds}): {'; '.join(changed) or 'the recipe is the same'}"


@dataclass(frozen=True)
class Check:
    """One number of a stage, before and now.

    Attributes:
        what: a metric's title, or what it is of the gate.
        form: format for people.
        before, now: interquartile means, NaN without any.
        interval: of ``now`` less ``before``; None with fewer than 2 runs.
        verdict: worse, better, equal or cannot tell.
    """

    what: str
    form: str
    before: float
    now: float
    interval: Interval | None
    verdict: str

    @property
    def text(self) -> str:
        """For people: ``success 97.0% → 80.0% [-20.1%, -14.0%]``."""
        return f"{self.what} {self.shown(self.before)} → {self.shown(self.now)} {self.ends}".rstrip()

    @property
    def ends(self) -> str:
        """The interval, for people."""
        if self.interval is None:
            return ""
        return f"[{', '.join(format(end, f'+{self.form}') for end in (self.interval.low, self.interval.high))}]"

    def shown(self, value: float) -> str:
        """Return a value for people."""
        return "–" if math.isnan(value) else format(value, self.form)


@dataclass(frozen=True)
class StageResult:
    """A stage of one animal and algorithm, before and now."""

    species: str
    algo: str
    stage: str  # the third by its event
    seeds: tuple[list[int], list[int]]  # before, now
    checks: tuple[Check, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.species} {self.stage} ({self.algo})"

    def having(self, verdict: str) -> list[Check]:
        """Return the checks with a verdict."""
        return [check for check in self.checks if check.verdict == verdict]

    def to_json(self) -> dict[str, Any]:
        """Return the numbers; see :func:`dinorl.files.run_folder.as_json` for NaN."""
        checks = [
            {
                "what": check.what, "before": check.before, "now": check.now, "verdict": check.verdict,
                "interval": None if check.interval is None else [check.interval.low, check.interval.high],
            }
            for check in self.checks
        ]  # fmt: skip
        seeds = {"seeds_before": self.seeds[0], "seeds_now": self.seeds[1]}
        return {"species": self.species, "algo": self.algo, "stage": self.stage, **seeds, "checks": checks}


# The baseline --------------------------------------------------------------------------------------------------------


def find_baseline(configs: Sequence[Config], but: str, against: str | None, uri: str | None) -> Baseline:
    """Return the runs to compare with.

    Without ``against``: the newest sweep that has each stage of the curriculum, trained as now but for the recipe. A
    sweep whose recipe differs is preferred to one whose recipe is today's; one that overrode the recipe does not count.

    Args:
        configs: today's, one a stage.
        but: the sweep of the regression itself.
        against: a selection.
        uri: of the MLflow server.

    Raises:
        ConfigError: there is none.
    """
    first = configs[0]
    everything = f"species={first.species.name} algo={first.algo.name}"
    if against is not None:
        runs = [run for run in read_runs(Selection.parse(against), uri) if _is_of(first, run)]
        return _baseline(against, runs, configs)
    sweeps: dict[str, list[StageRun]] = {}
    for run in read_runs(Selection.parse(everything), uri):
        sweeps.setdefault(run.tags["sweep"], []).append(run)
    found = [
        baseline
        for name, runs in sweeps.items()
        if name not in ("", but) and (baseline := _comparable(name, runs, configs)) is not None
    ]
    if not found:
        raise ConfigError(
            f"no finished sweep has whole curricula of {first.species.name} with {first.algo.name}, trained as these "
            "but for the recipe",
            hint=f"Name one with --against SWEEP, or train one on the recipe before: dinorl species="
            f"{first.species.name} algo={first.algo.name} seed=0,1,2",
        )
    return next((baseline for baseline in found if any(baseline.changes.values())), found[0])


def check_metric(metric: Metric, baselines: Iterable[Baseline]) -> None:
    """Check that a metric of runs before and now can be compared.

    Raises:
        ConfigError: it is a return and reward weights changed, or it is the steps to gates that changed.
    """
    depends = {GATE_STEPS.name: GATE, **dict.fromkeys(RETURNS, ("env.",))}.get(metric.name, ())
    keys = {key for baseline in baselines for changed in baseline.changes.values() for key in changed}
    if changed := sorted(key for key in keys if key.startswith(depends)):
        raise ConfigError(
            f"{metric.name}: cannot be compared, for {list_of(changed)} changed", hint="Leave --metric out"
        )


def _is_of(config: Config, run: StageRun) -> bool:
    return (run.tags["species"], run.tags["algo"]) == (config.species.name, config.algo.name)


def _comparable(name: str, runs: Sequence[StageRun], configs: Sequence[Config]) -> Baseline | None:
    """Return a sweep as the baseline, or None if it cannot be."""
    try:
        baseline = _baseline(name, runs, configs)
    except ConfigError:
        return None
    overridden = any(
        key in baseline.changes[stage]
        for stage, group in baseline.runs.items()
        for key in typed(typed_overrides(group[0]))
    )
    return None if overridden or baseline.setup_differs else baseline


def _baseline(name: str, runs: Sequence[StageRun], configs: Sequence[Config]) -> Baseline:
    """Return runs by stage.

    Raises:
        ConfigError: a stage is missing, or has runs that differ in more than their seeds.
    """
    by_stage: dict[str, list[StageRun]] = {}
    changes: dict[str, Changes] = {}
    notes, setup_differs = [], False
    for config in configs:
        stage = config.stage.name
        several = [run for run in runs if run.tags["stage"] == stage]
        if not several:
            raise ConfigError(f"{name}: no finished run of {config.stage_label}")
        check_equal(several)
        by_stage[stage] = newest_by_seed(several)
        changes[stage] = {}
        for key, (was, now) in differences(trained_values(several[0]), values_of(config)).items():
            if in_recipe(key, config.algo.name):
                changes[stage][key] = (was, now)
                continue
            setup_differs = True
            notes.append(
                f"{config.stage_label}: {key} was {text_of(was)}, is {text_of(now)}; numbers may differ for that"
            )
        if gates := [key for key in changes[stage] if key.startswith(GATE)]:
            notes.append(f"{config.stage_label}: {', '.join(gates)} changed, so the gates are not compared")
    return Baseline(name, by_stage, changes, tuple(notes), setup_differs)


# The comparison ------------------------------------------------------------------------------------------------------


def compare_stages(
    configs: Sequence[Config], baseline: Baseline, sweep: str, metric: Metric | None, uri: str | None
) -> Iterator[StageResult]:
    """Yield each stage's numbers, before and now.

    Args:
        configs: today's, one a stage.
        baseline: the runs before.
        sweep: the runs now.
        metric: of every stage; None: what each is for.
        uri: of the MLflow server.

    Raises:
        ConfigError: the sweep has no finished runs of a stage.
    """
    first = configs[0]
    species, algo = first.species.name, first.algo.name
    runs = read_runs(Selection.parse(f"sweep={sweep} species={species} algo={algo}"), uri)
    for config in configs:
        now = newest_by_seed(run for run in runs if run.tags["stage"] == config.stage.name)
        if not now:
            raise ConfigError(f"{sweep}: no finished run of {config.stage_label}")
        before = baseline.runs[config.stage.name]
        checks = tuple(_checks({BEFORE: before, NOW: now}, metric or default_metric(now[0]), uri))
        seeds = ([run.seed for run in before], [run.seed for run in now])
        yield StageResult(species, algo, config.stage_label, seeds, checks)


def _checks(runs: Mapping[str, list[StageRun]], metric: Metric, uri: str | None) -> Iterator[Check]:
    """Yield the checks of a metric and, if the gates are the same, of the gate."""
    curves = read_curves([run for group in runs.values() for run in group], curve_keys(metric), uri)
    yield _measured(runs, metric, curves)
    everyone = [run for group in runs.values() for run in group]
    if differing_keys(everyone, GATE):
        return
    passed, passed_now = ([float(run.gate == PASSED) for run in group] for group in runs.values())
    yield check("gate passed", ".0%", passed, passed_now, True)
    if metric is not GATE_STEPS and any(run.gate == PASSED for run in everyone):
        yield _measured(runs, GATE_STEPS, curves)


def _measured(runs: Mapping[str, list[StageRun]], metric: Metric, curves: Mapping[str, Curves]) -> Check:
    before, now = compare(runs, metric, curves).groups
    return check(metric.title, metric.form, before.scores, now.scores, metric.better == "up")


def check(what: str, form: str, before: Sequence[float], now: Sequence[float], more_is_better: bool) -> Check:
    """Compare numbers of runs: one is worse or better only if the intervals of both do not overlap."""
    means = [float(statistics.interquartile_mean(scores)) for scores in (before, now)]
    known = not any(map(math.isnan, (*before, *now)))
    apart = statistics.difference_interval([now], [before]) if known else None
    verdict = UNCLEAR
    if known and min(len(before), len(now)) >= LEAST_SEEDS:
        ends = [statistics.interval([scores]) for scores in (before, now)]
        assert ends[0] is not None and ends[1] is not None
        if np.ptp([*before, *now]) == 0.0:
            verdict = EQUAL
        elif not ends[0].overlaps(ends[1]):
            verdict = BETTER if (means[1] > means[0]) is more_is_better else WORSE
    return Check(what, form, means[0], means[1], apart, verdict)
