"""Compares groups of runs of one task (a species at a stage) by one metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from dinorl.config import STAGES, ConfigError
from dinorl.config.errors import nearest
from dinorl.evaluation.metrics import METRICS, Metric
from dinorl.verdicts import statistics
from dinorl.verdicts.notes import GATE, differing, differing_keys, notes_on
from dinorl.verdicts.records import CONSECUTIVE, DEVIATION, EVALUATION, RETURN, Curves, StageRun, kept
from dinorl.verdicts.statistics import MOST_SEEDS, Interval

LEAST_SEEDS = 3  # of each group for a winner: two and two are apart by chance in one case of three
RETURNS = ("return_mean", "return_std")  # depend on the reward weights
# what a stage is for, apart from reward weights
DEFAULT_METRICS = dict(zip(STAGES, ("fall_rate", "forward_speed_mean_mps", "success_rate"), strict=True))
PASSED = "passed"  # a gate
KEPT = "evaluation of the kept bundle"  # where scores come from
# no evaluation has it
GATE_STEPS = Metric(
    "gate_steps", "environment steps to the gate", "", "environment steps at which the gate was passed", "down", ",.0f",
    lambda recorder: None,
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Runs that differ only by their seed, as far as is known.

    Attributes:
        label: such as ``ppo``.
        runs: of one task.
        scores: of each run, NaN if it has none.
        gate_steps: environment steps at which each run passed its gate, NaN if it did not.
    """

    label: str
    runs: tuple[StageRun, ...]
    scores: tuple[float, ...]
    gate_steps: tuple[float, ...]

    @cached_property
    def measured(self) -> list[float]:
        """The scores but NaN."""
        return [score for score in self.scores if not math.isnan(score)]

    @property
    def seeds(self) -> list[int]:
        """The runs' seeds, ascending."""
        return sorted(run.seed for run in self.runs)

    @property
    def mean(self) -> float:
        """Interquartile mean of the scores; NaN without any."""
        return float(statistics.interquartile_mean(self.measured)) if self.measured else math.nan

    @cached_property
    def interval(self) -> Interval | None:
        """Its bootstrap interval; None with fewer than 2 scores."""
        return statistics.interval([self.measured])

    @property
    def passed(self) -> int:
        """Number of runs that passed the gate."""
        return sum(run.gate == PASSED for run in self.runs)

    @property
    def mean_gate_steps(self) -> float:
        """Mean environment steps to the gate, of the runs that passed; NaN without any."""
        return _mean([steps for steps in self.gate_steps if not math.isnan(steps)])

    @property
    def minutes(self) -> float:
        """Mean wall time of a run, min."""
        return _mean([run.minutes for run in self.runs if not math.isnan(run.minutes)])

    def to_json(self) -> dict[str, Any]:
        """Return the numbers."""
        return {
            "label": self.label, "seeds": self.seeds, "runs": [run.run_id for run in self.runs],
            "scores": list(self.scores), "interquartile_mean": self.mean, "interval": _pair(self.interval),
            "gate_passed": self.passed, "gate_steps": list(self.gate_steps), "mean_gate_steps": self.mean_gate_steps,
            "minutes": self.minutes,
        }  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What two groups' scores say.

    Attributes:
        one: label of the group with the better interquartile mean.
        other: label of the other group.
        difference: interquartile mean of ``one`` less that of ``other``.
        interval: of the difference; None with fewer than 2 scores in a group.
        improvement: probability that a run of ``one`` is better than a run of ``other``.
        improvement_interval: its interval, or None.
        chance: how often runs dealt to the groups at random differ as much, see
            :func:`dinorl.verdicts.statistics.chance`.
        better: ``one`` if it wins, else None.
        more_seeds: that each group needs for a winner, see :func:`dinorl.verdicts.statistics.more_seeds`.
        why: one sentence.
    """

    one: str
    other: str
    difference: float
    interval: Interval | None
    improvement: float
    improvement_interval: Interval | None
    chance: float
    better: str | None
    more_seeds: int | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """Return the numbers."""
        pairs = {"interval": _pair(self.interval), "improvement_interval": _pair(self.improvement_interval)}
        return asdict(self) | pairs


@dataclass(frozen=True)
class Comparison:
    """Groups of runs of one task, compared by one metric.

    Attributes:
        species: of all runs.
        stage: the third by its event.
        metric: its ``better`` says which direction is better.
        groups: in the order given.
        verdicts: the group with the best interquartile mean against each other one.
        differences: what differs between the groups: parameter, then its values by label.
        notes: what a reader must know, a sentence each.
    """

    species: str
    stage: str
    metric: Metric
    groups: tuple[Group, ...]
    verdicts: tuple[Verdict, ...]
    differences: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def winner(self) -> str | None:
        """Label of the group that is better than every other; None without a clear verdict."""
        best = {verdict.better for verdict in self.verdicts}
        return best.pop() if len(best) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return everything; see :func:`dinorl.files.run_folder.as_json` for NaN."""
        return {
            "species": self.species, "stage": self.stage, "metric": self.metric.name, "better": self.metric.better,
            "scores_of": KEPT, "groups": [group.to_json() for group in self.groups],
            "verdicts": [verdict.to_json() for verdict in self.verdicts], "winner": self.winner,
            "differences": {key: dict(values) for key, values in self.differences.items()},
            "notes": list(self.notes),
        }  # fmt: skip


def directed_metrics() -> dict[str, Metric]:
    """Return the metrics of which more or less is better, by name."""
    return {metric.name: metric for metric in (*METRICS, GATE_STEPS) if metric.better is not None}


def metric_named(name: str) -> Metric:
    """Return a metric that has a better direction.

    Raises:
        ConfigError: there is no such metric, or it has no direction.
    """
    known = directed_metrics()
    if name in known:
        return known[name]
    if any(metric.name == name for metric in METRICS):
        raise ConfigError(f"{name}: neither more nor less of it is better", expected=f"one of {', '.join(known)}")
    close = nearest(name, known)
    problem = f"{name}: there is no such metric" + (f"; the nearest is {close[0]}" if close else "")
    raise ConfigError(problem, expected=f"one of {', '.join(known)}")


def default_metric(run: StageRun) -> Metric:
    """Return the metric of what the run's stage is for."""
    return metric_named(DEFAULT_METRICS[run.tags["stage"]])


def curve_keys(metric: Metric) -> list[str]:
    """Return the metrics in MLflow whose history :func:`compare` needs."""
    own = () if metric is GATE_STEPS else (EVALUATION + metric.name,)
    return list(dict.fromkeys((RETURN, DEVIATION, CONSECUTIVE, *own)))


def compare(groups: Mapping[str, Sequence[StageRun]], metric: Metric, curves: Mapping[str, Curves]) -> Comparison:
    """Compare groups of runs of one task.

    Args:
        groups: runs by label; none is empty, all are of one species and stage.
        metric: of evaluations; the score of a run is that of the evaluation whose bundle was kept. Of
            :data:`GATE_STEPS` a run that did not pass scores as many steps as the longest run.
        curves: by run id, with the histories of :func:`curve_keys`.

    Raises:
        ConfigError: the metric is a return and reward weights differ, or it is the steps to gates that differ.
    """
    runs = [run for group in groups.values() for run in group]
    refuse_returns(metric, runs)
    _refuse_gates(metric, runs)
    ends = [float(curves[run.run_id][RETURN].steps[-1]) for run in runs if RETURN in curves.get(run.run_id, {})]
    longest = max(ends, default=math.nan)
    made = tuple(_group(label, group, metric, curves, longest) for label, group in groups.items())
    notes = tuple(notes_on(groups, {group.label: group.scores for group in made}, metric))
    verdicts = _verdicts(made, metric)
    notes += tuple(_trained_longer(made, verdicts)) if metric is not GATE_STEPS else ()
    return Comparison(runs[0].tags["species"], runs[0].stage, metric, made, verdicts, differing(groups), notes)


def _trained_longer(groups: Sequence[Group], verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield which winners are better after more steps, for a stage ends when its gate is passed."""
    steps = {group.label: group.mean_gate_steps for group in groups if group.passed == len(group.runs)}
    for verdict in verdicts:
        if verdict.better and steps.get(verdict.one, 0.0) > steps.get(verdict.other, math.inf):
            yield (
                f"{verdict.one} trained longer: its gates passed after {steps[verdict.one]:,.0f} steps, those of "
                f"{verdict.other} after {steps[verdict.other]:,.0f}."
            )


def refuse_returns(metric: Metric, runs: Sequence[StageRun]) -> None:
    """Refuse a return of runs with different reward weights.

    Raises:
        ConfigError: they differ.
    """
    if metric.name not in RETURNS:
        return
    if differ := differing_keys(runs, "env."):
        raise ConfigError(
            f"{metric.name}: returns cannot be compared, for the runs differ in {', '.join(differ)}",
            hint="Type a metric of behavior, e.g. --metric fall_rate",
        )


def _refuse_gates(metric: Metric, runs: Sequence[StageRun]) -> None:
    if metric is GATE_STEPS and (differ := differing_keys(runs, GATE)):
        raise ConfigError(
            f"{metric.name}: steps to different gates cannot be compared, for the runs differ in {', '.join(differ)}",
            hint="Type a metric of behavior, e.g. --metric fall_rate",
        )


def _group(label: str, runs: Sequence[StageRun], metric: Metric, curves: Mapping[str, Curves], longest: float) -> Group:
    gate_steps = tuple(_gate_steps(run, curves.get(run.run_id, {})) for run in runs)
    if metric is GATE_STEPS:
        scores = tuple(longest if math.isnan(steps) else steps for steps in gate_steps)
    else:
        scores = tuple(_score(curves.get(run.run_id, {}), EVALUATION + metric.name) for run in runs)
    return Group(label, tuple(runs), scores, gate_steps)


def _gate_steps(run: StageRun, curves: Curves) -> float:
    return float(curves[RETURN].steps[-1]) if run.gate == PASSED and RETURN in curves else math.nan


def _score(curves: Curves, key: str) -> float:
    step = kept(curves)
    return math.nan if step is None or key not in curves else curves[key].exactly(step)


def _verdicts(groups: Sequence[Group], metric: Metric) -> tuple[Verdict, ...]:
    sign = 1.0 if metric.better == "up" else -1.0
    measured = [group for group in groups if group.measured]
    if len(measured) < 2:
        return ()
    best = max(measured, key=lambda group: sign * group.mean)
    return tuple(_verdict(best, group, metric, sign) for group in measured if group is not best)


def _verdict(best: Group, other: Group, metric: Metric, sign: float) -> Verdict:
    one, two = [np.multiply(sign, group.measured) for group in (best, other)]
    chance = statistics.chance(one, two)
    better, more, why = _winner(best, other, metric, chance)
    interval = statistics.difference_interval([best.measured], [other.measured])
    return Verdict(
        best.label, other.label, best.mean - other.mean, interval, statistics.improvement([one], [two]),
        statistics.improvement_interval([one], [two]), chance, better, more, why,
    )  # fmt: skip


def _winner(best: Group, other: Group, metric: Metric, chance: float) -> tuple[str | None, int | None, str]:
    """Return the winner, how many more seeds would decide, and a sentence."""
    pair, none = (best, other), f"No winner between {best.label} and {other.label}:"
    if any(len(group.measured) < len(group.scores) for group in pair):
        return None, None, f"{none} some runs have no {metric.name}."
    more = statistics.more_seeds(best.measured, other.measured)
    if (missing := LEAST_SEEDS - min(len(group.measured) for group in pair)) > 0:
        more = max(more or 0, missing)
        needed = f"; {_needed(more)}" if more > missing else ""
        return None, more, f"{none} a verdict takes {LEAST_SEEDS} seeds a group, so {missing} more at least{needed}."
    if len(set(best.measured + other.measured)) == 1:
        instead = "" if metric is GATE_STEPS else f"; --metric {GATE_STEPS.name} may tell them apart"
        return None, None, f"{none} every run has {shown(metric, best.mean)}{instead}."
    assert best.interval is not None and other.interval is not None
    if best.interval.overlaps(other.interval):
        return None, more, f"{none} their intervals overlap; {_needed(more)}."
    doubt = f"runs dealt at random differ as much in {chance:.1%} of cases"
    return best.label, 0, f"{best.label} is better than {other.label}: their intervals do not overlap ({doubt})."


def _needed(more: int | None) -> str:
    if more is None:
        return "the scores do not tell how many more seeds would decide"
    if more > MOST_SEEDS:
        return f"more than {MOST_SEEDS} more seeds a group would be needed to decide"
    return f"about {more} more seed{'s' if more > 1 else ''} a group would decide"


def shown(metric: Metric, value: float) -> str:
    """Return a value of a metric for people."""
    return "–" if math.isnan(value) else format(value, metric.form)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
