"""Compares groups of runs of one task (a species at a stage) by one metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dinorl.config import STAGES, ConfigError
from dinorl.config.errors import nearest
from dinorl.config.identity import NOT_TRAINED_ON
from dinorl.evaluation.metrics import METRICS, Metric
from dinorl.verdicts import statistics
from dinorl.verdicts.records import CONSECUTIVE, DEVIATION, EVALUATION, RETURN, Curves, StageRun, kept
from dinorl.verdicts.statistics import MOST_SEEDS, Interval

LEAST_SEEDS = 3  # of each group for a winner: two and two are apart by chance in one case of three
RETURNS = ("return_mean", "return_std")  # depend on the reward weights
# what a stage is for, apart from reward weights
DEFAULT_METRICS = dict(zip(STAGES, ("fall_rate", "forward_speed_mean_mps", "success_rate"), strict=True))
PASSED, NOT_PROVEN = "passed", "not proven"  # gates
KEPT = "evaluation of the kept bundle"  # where scores come from


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

    @property
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

    @property
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


def metric_named(name: str) -> Metric:
    """Return a metric that has a better direction.

    Raises:
        ConfigError: there is no such metric, or it has no direction.
    """
    known = {metric.name: metric for metric in METRICS if metric.better is not None}
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
    return list(dict.fromkeys((RETURN, DEVIATION, CONSECUTIVE, EVALUATION + metric.name)))


def compare(groups: Mapping[str, Sequence[StageRun]], metric: Metric, curves: Mapping[str, Curves]) -> Comparison:
    """Compare groups of runs of one task.

    Args:
        groups: runs by label; none is empty, all are of one species and stage.
        metric: of evaluations; the score of a run is that of the evaluation whose bundle was kept.
        curves: by run id, with the histories of :func:`curve_keys`.

    Raises:
        ConfigError: the metric is a return and reward weights differ, so that returns cannot be compared.
    """
    runs = [run for group in groups.values() for run in group]
    differences = differing(groups)
    refuse_returns(metric, runs)
    made = tuple(_group(label, group, metric, curves) for label, group in groups.items())
    return Comparison(
        runs[0].tags["species"], runs[0].stage, metric, made, _verdicts(made, metric), differences, _notes(made, metric)
    )


def refuse_returns(metric: Metric, runs: Sequence[StageRun]) -> None:
    """Refuse a return of runs with different reward weights.

    Raises:
        ConfigError: they differ.
    """
    if metric.name not in RETURNS:
        return
    keys = {key for run in runs for key in run.params if key.startswith("env.")}
    if differ := sorted(key for key in keys if len({run.params.get(key) for run in runs}) > 1):
        raise ConfigError(
            f"{metric.name}: returns cannot be compared, for the runs differ in {', '.join(differ)}",
            hint="Type a metric of behavior, e.g. --metric fall_rate",
        )


def differing(groups: Mapping[str, Sequence[StageRun]]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the parameters whose values differ between groups, with their values by label."""
    found = {}
    keys = {key: None for group in groups.values() for run in group for key in run.params}
    for key in keys:
        if key == "seed" or key in NOT_TRAINED_ON or key.partition(".")[0] in NOT_TRAINED_ON:
            continue
        values = {label: tuple(sorted({run.params.get(key, "") for run in group})) for label, group in groups.items()}
        if len(set(values.values())) > 1:
            found[key] = values
    return found


def _group(label: str, runs: Sequence[StageRun], metric: Metric, curves: Mapping[str, Curves]) -> Group:
    scores, gate_steps = [], []
    for run in runs:
        mine = curves.get(run.run_id, {})
        step, curve = kept(mine), mine.get(EVALUATION + metric.name)
        scores.append(curve.exactly(step) if curve is not None and step is not None else math.nan)
        gate_steps.append(float(mine[RETURN].steps[-1]) if run.gate == PASSED and RETURN in mine else math.nan)
    return Group(label, tuple(runs), tuple(scores), tuple(gate_steps))


def _verdicts(groups: Sequence[Group], metric: Metric) -> tuple[Verdict, ...]:
    sign = 1.0 if metric.better == "up" else -1.0
    measured = [group for group in groups if group.measured]
    if len(measured) < 2:
        return ()
    best = max(measured, key=lambda group: sign * group.mean)
    return tuple(_verdict(best, group, metric, sign) for group in measured if group is not best)


def _verdict(best: Group, other: Group, metric: Metric, sign: float) -> Verdict:
    one, two = [np.multiply(sign, group.measured) for group in (best, other)]
    better, more, why = _winner(best, other, metric)
    interval = statistics.difference_interval([best.measured], [other.measured])
    return Verdict(
        best.label, other.label, best.mean - other.mean, interval, statistics.improvement([one], [two]),
        statistics.improvement_interval([one], [two]), better, more, why,
    )  # fmt: skip


def _winner(best: Group, other: Group, metric: Metric) -> tuple[str | None, int | None, str]:
    """Return the winner, how many more seeds would decide, and a sentence."""
    pair = (best, other)
    if lacking := [group.label for group in pair if len(group.measured) < len(group.scores)]:
        return None, None, f"No winner: runs of {' and '.join(lacking)} have no {metric.name}."
    more = statistics.more_seeds(best.measured, other.measured)
    fewest = min(len(group.measured) for group in pair)
    if fewest < LEAST_SEEDS:
        more = max(more or 0, LEAST_SEEDS - fewest)
        return None, more, f"No winner: a verdict takes {LEAST_SEEDS} seeds a group; {_needed(more)}."
    if len(set(best.measured + other.measured)) == 1:
        return None, None, f"No winner: every run has {shown(metric, best.mean)}."
    assert best.interval is not None and other.interval is not None
    if best.interval.overlaps(other.interval):
        return None, more, f"No winner: the intervals overlap; {_needed(more)}."
    return best.label, 0, f"{best.label} is better than {other.label}: the intervals do not overlap."


def _needed(more: int | None) -> str:
    if more is None:
        return "the scores do not tell how many more seeds would decide"
    if more > MOST_SEEDS:
        return f"more than {MOST_SEEDS} more seeds a group would be needed to decide"
    return f"about {more} more seed{'s' if more > 1 else ''} a group would decide"


def shown(metric: Metric, value: float) -> str:
    """Return a value of a metric for people."""
    return "–" if math.isnan(value) else format(value, metric.form)


def _notes(groups: Sequence[Group], metric: Metric) -> tuple[str, ...]:
    return ()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
