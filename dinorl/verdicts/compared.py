"""Compares selections of runs, each task by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dinorl.evaluation.metrics import Metric
from dinorl.verdicts.comparison import (
    GATE_STEPS,
    Comparison,
    compare,
    curve_keys,
    default_metric,
    metric_named,
)
from dinorl.verdicts.groups import Groups, Task, select, tasks, varied, varying
from dinorl.verdicts.overall import Overall, over_species
from dinorl.verdicts.records import EVALUATION, Curve, StageRun, read_curves

METHOD = (
    "Intervals: 95 %, stratified bootstrap over seeds. Seeds that would decide: from the pooled standard deviation of "
    "the seeds, if the difference stays as it is."
)


@dataclass(frozen=True)
class Compared:
    """Comparisons of the same groups, task by task.

    Attributes:
        tasks: a comparison each.
        overall: verdicts over species.
        remarks: sentences on all of it.
    """

    tasks: Sequence[Comparison]
    overall: Sequence[Overall]
    remarks: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "tasks": [task.to_json() for task in self.tasks],
            "overall": [verdict.to_json() for verdict in self.overall],
            "remarks": list(self.remarks),
            "method": METHOD,
        }


def compare_selections(
    texts: Sequence[str],
    key: str | None = None,
    metric: str | None = None,
    drawn: bool = False,
    uri: str | None = None,
) -> tuple[Compared, dict[str, dict[str, Curve]]]:
    """Compare groups of finished runs at each task that two of them have.

    Args:
        texts: selections, see :func:`dinorl.verdicts.groups.select`.
        key: tag or parameter whose values are the groups; None: each selection is one.
        metric: name; None: of what each stage is for.
        drawn: read the histories that a figure needs too.
        uri: see :func:`dinorl.verdicts.records.read_runs`.

    Returns:
        The comparisons, and the histories by run id.

    Raises:
        ConfigError: see the functions that it calls.
    """
    chosen = metric_named(metric) if metric else None
    groups, notes = select(texts, key, uri)
    found = tasks(groups)
    together = [task for task in found if len(task.groups) > 1 or len(groups) == 1]
    metrics = [chosen or default_metric(_runs(task)[0]) for task in together]
    curves: dict[str, dict[str, Curve]] = {}
    for task, own in zip(together, metrics, strict=True):
        keys = [*curve_keys(own), *([EVALUATION + drawn_metric(own, _runs(task)[0]).name] if drawn else [])]
        curves |= read_curves(_runs(task), list(dict.fromkeys(keys)), uri)
    comparisons = [_compare(task, own, curves) for task, own in zip(together, metrics, strict=True)]
    overall = [
        verdict
        for index in sorted({task.index for task in together})
        for verdict in over_species([c for c, task in zip(comparisons, together, strict=True) if task.index == index])
    ]
    return Compared(comparisons, overall, [*notes, *_remarks(groups, found, key)]), curves


def drawn_metric(metric: Metric, run: StageRun) -> Metric:
    """Return the metric of the figure: the steps to the gate have no curve."""
    return default_metric(run) if metric is GATE_STEPS else metric


def _compare(task: Task, metric: Metric, curves: dict[str, dict[str, Curve]]) -> Comparison:
    mine = {run.run_id: curves[run.run_id] for run in _runs(task)}
    comparison = compare(task.groups, metric, mine)
    return replace(comparison, notes=(*task.notes, *comparison.notes))


def _runs(task: Task) -> list[StageRun]:
    return [run for runs in task.groups.values() for run in runs]


def _remarks(groups: Groups, found: Sequence[Task], key: str | None) -> Iterator[str]:
    for task in found:
        if 1 == len(task.groups) < len(groups):
            yield f"{task.name}: only {next(iter(task.groups))} has runs; not compared."
        elif lacking := [label for label in groups if label not in task.groups]:
            yield f"{task.name}: no runs of {', '.join(lacking)}."
    if len(groups) == 1:
        keys = varying(run for runs in groups.values() for run in runs)
        same = f"{key} is the same in all runs. " if key else ""
        by = f"; type e.g. --by {keys[0]}" if keys else ""
        yield f"{same}One group, so no verdict. Here {varied(keys)}{by}."
