"""The tables of a sweep's page: lineages by stages, and each stage's metrics beside its nulls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dinorl.evaluation.metrics import METRICS, Metric
from dinorl.reports.stages import NULLS, SHOWN, StageRecord, Unlogged
from dinorl.training.gate import THRESHOLDS
from dinorl.verdicts.comparison import default_metric, shown
from dinorl.verdicts.selection import DONE

MISSING = "–"
_METRICS = {metric.name: metric for metric in METRICS}
_PERCENT_BOUND = " (95 %)"
# What a verdict or a status means to a reader: a class of the page's style, and words.
VERDICTS = {
    "passed": ("good", "✓ passed"),
    "not proven": ("doubt", "? not proven"),
    "advanced_on_budget": ("bad", "✗ not passed"),
    "stopped_on_budget": ("bad", "✗ not passed, stopped"),
    "stopped_by_listener": ("doubt", "– pruned"),
    "RUNNING": ("open", "… running"),
    "FAILED": ("bad", "! failed"),
    "PRUNED": ("doubt", "– pruned"),
    "INTERRUPTED": ("doubt", "! interrupted"),
    "NOT RUN": ("open", "– not run"),
}


@dataclass(frozen=True)
class Cell:
    """One stage of one lineage in the overview.

    Attributes:
        kind: of the verdict: good, bad, doubt or open.
        verdict: in words.
        lines: its numbers.
        link: to its run folder, or None.
    """

    kind: str
    verdict: str
    lines: tuple[str, ...] = ()
    link: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        head: titles of the columns, each with a note below it or an empty text.
        rows: the first cell names a row.
        foot: rows to compare with, such as null policies.
    """

    head: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]
    foot: tuple[tuple[str, ...], ...] = ()


def overview(
    records: Sequence[StageRecord], others: Sequence[Unlogged], link: Callable[[StageRecord], str | None]
) -> tuple[dict[int, str], dict[str, dict[int, Cell]]]:
    """Return the stages' titles by index, and each lineage's cells by index.

    Args:
        records: of one animal; one that several lineages share is in each of them.
        others: stages that MLflow does not know.
        link: returns where a run folder is, seen from the page.
    """
    titles: dict[int, str] = {}
    cells: dict[str, dict[int, Cell]] = {}
    for record in sorted(records, key=lambda one: one.order):
        titles[record.index] = record.run.stage.replace("_", " ")
        for name in record.lineages:
            shared = () if name == record.lineages[0] else (f"shared with {record.lineages[0]}",)
            cells.setdefault(name, {})[record.index] = _cell(record, shared, link(record))
    for other in others:
        titles.setdefault(other.index, other.stage)
        cell = Cell(*_verdict(str(other.status.get("status")), str(other.status.get("gate"))))
        cells.setdefault(other.lineage, {}).setdefault(other.index, cell)
    return dict(sorted(titles.items())), cells


def _cell(record: StageRecord, notes: tuple[str, ...], link: str | None) -> Cell:
    metric = default_metric(record.run)
    value, title = record.value(metric.name), metric.title.partition(",")[0]
    numbers = [] if math.isnan(value) else [f"{title} {shown(metric, value)} {metric.unit}".rstrip()]
    done = f"{million(record.passed_at or record.last)} steps" if record.last else ""
    took = "" if math.isnan(record.run.minutes) else f"{record.run.minutes:.1f} min"
    lines = (*numbers, ", ".join(filter(None, (done, took))), *notes)
    return Cell(*verdict(record), tuple(filter(None, lines)), link)


def verdict(record: StageRecord) -> tuple[str, str]:
    """Return the kind and the words of a stage's verdict; see :data:`VERDICTS`."""
    return _verdict(record.run.tags.get("status", ""), record.run.gate)


def _verdict(status: str, gate: str) -> tuple[str, str]:
    key = gate if status == DONE else status
    return VERDICTS.get(key, ("open", key))


def stage_table(records: Sequence[StageRecord], label: Callable[[StageRecord], str]) -> Table:
    """Return the metrics of one stage: a row a run, then the null policies.

    Args:
        records: of one animal and stage.
        label: returns a run's name.
    """
    metrics = [_METRICS[name] for name in _metrics(records)]
    head = [("lineage", ""), ("gate", ""), ("passed at", "steps"), ("time", "min")]
    head += [(metric.title.removesuffix(_PERCENT_BOUND), _threshold(metric, records)) for metric in metrics]
    rows = []
    for record in records:
        at = "" if record.passed_at is None and not record.last else million(record.passed_at or record.last)
        at = at if record.passed_at is not None else f"not in {at}" if at else MISSING
        took = MISSING if math.isnan(record.run.minutes) else f"{record.run.minutes:.1f}"
        cells = [_with_deviation(record, metric) for metric in metrics]
        rows.append((label(record), verdict(record)[1], at, took, *cells))
    return Table(tuple(head), tuple(rows), tuple(_null_row(name, records, metrics) for name in NULLS))


def _metrics(records: Sequence[StageRecord]) -> list[str]:
    """Return the metrics that matter: a stage's own and those of its gate, in the order of :data:`METRICS`."""
    gate = {THRESHOLDS[key] for record in records for key in record.thresholds}
    wanted = gate | set(SHOWN[records[0].index])
    return [name for name in _METRICS if name in wanted]


def _threshold(metric: Metric, records: Sequence[StageRecord]) -> str:
    """Return what the gate expects of a metric, such as ``gate: ≤ 5.0%``."""
    keys = [key for key, name in THRESHOLDS.items() if name == metric.name]
    values = {(key, record.thresholds[key]) for record in records for key in keys if key in record.thresholds}
    if not values:
        return ""
    signs = {"max": "≤", "min": "≥"}
    return "gate: " + " or ".join(f"{signs[key[:3]]} {shown(metric, value)}" for key, value in sorted(values))


def _with_deviation(record: StageRecord, metric: Metric) -> str:
    text = shown(metric, record.value(metric.name))
    deviation = record.value("return_std")
    return text if metric.name != "return_mean" or math.isnan(deviation) else f"{text} ± {deviation:.1f}"


def _null_row(policy: str, records: Sequence[StageRecord], metrics: Sequence[Metric]) -> tuple[str, ...]:
    cells = []
    for metric in metrics:
        values = [value for record in records if not math.isnan(value := record.null(policy, metric.name))]
        texts = dict.fromkeys(shown(metric, value) for value in sorted(values))
        cells.append(" … ".join((list(texts)[0], list(texts)[-1])[: len(texts)]) if texts else MISSING)
    return (NULLS[policy], "", "", "", *cells)


def million(steps: int) -> str:
    """Return environment steps for people, such as ``0.39 M``."""
    return f"{steps / 1e6:.2f} M" if steps >= 10_000 else f"{steps:,}"
