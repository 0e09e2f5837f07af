"""Tables, sentences and the figure of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from dinorl.evaluation.metrics import Metric
from dinorl.verdicts.compared import METHOD, Compared, drawn_metric
from dinorl.verdicts.comparison import GATE_STEPS, KEPT, Comparison, Group, Verdict, shown
from dinorl.verdicts.groups import SHORT
from dinorl.verdicts.notes import NAMED
from dinorl.verdicts.records import EVALUATION, Curves
from dinorl.verdicts.selection import COMMIT
from dinorl.verdicts.statistics import Interval

_HEIGHT, _WIDTH = 4.0, 5.6  # inches, of a task's axes
_SEEDS = 6  # named in a table


def for_terminal(compared: Compared) -> RenderableType:
    """Return tables and sentences for rich."""
    parts: list[RenderableType] = []
    for task in compared.tasks:
        table = Table()
        for i, column in enumerate(header(task.metric)):
            table.add_column(column, justify="right" if i > 1 else "left")
        for group in task.groups:
            table.add_row(*row(group, task.metric))
        parts += [escape(_title(task)), table, *_plain(sentences(task)), ""]
    return Lines(*parts, *_plain([*_ending(compared), METHOD]))


def as_markdown(compared: Compared) -> str:
    """Return tables and lists in Markdown."""
    parts = []
    for task in compared.tasks:
        head = header(task.metric)
        lines = [f"### {_title(task)}", "", _markdown_row(head), "|" + "---|" * len(head)]
        lines += [_markdown_row(row(group, task.metric)) for group in task.groups]
        parts.append("\n".join([*lines, "", *(f"* {sentence}" for sentence in sentences(task))]).rstrip())
    if ending := _ending(compared):
        parts.append("\n".join(f"* {sentence}" for sentence in ending))
    return "\n\n".join([*parts, METHOD])


def header(metric: Metric) -> tuple[str, ...]:
    """Return the table's columns."""
    return "group", "seeds", metric.title, "95 % interval", "gate passed", "at steps", "minutes"


def row(group: Group, metric: Metric) -> tuple[str, ...]:
    """Return a group's row: label, seeds, interquartile mean, its interval, the gate, mean steps to it, minutes."""
    seeds = f" ({', '.join(map(str, group.seeds))})" if len(group.seeds) <= _SEEDS else ""
    steps, minutes = group.mean_gate_steps, group.minutes
    return (
        group.label,
        f"{len(group.runs)}{seeds}",
        shown(metric, group.mean),
        _between(metric, group.interval),
        f"{group.passed} of {len(group.runs)}",
        "–" if math.isnan(steps) else f"{steps:,.0f}",
        "–" if math.isnan(minutes) else f"{minutes:.1f}",
    )


def sentences(task: Comparison) -> Iterator[str]:
    """Yield a task's verdicts, differences and notes, a sentence each."""
    for verdict in task.verdicts:
        yield f"{verdict.why} {_numbers(verdict, task.metric)}"
    if differences := {key: values for key, values in task.differences.items() if not _in_labels(values)}:
        yield f"The groups differ in {_differences(differences)}."
    yield from task.notes


def plot(compared: Compared, curves: Mapping[str, Curves], path: Path) -> None:
    """Draw each task's learning curves, the interquartile mean with its interval, side by side.

    Args:
        compared: what to draw.
        curves: by run id, with the histories of each task's :func:`drawn_metric`.
        path: an image file; its folder is made.
    """
    # slow imports
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from dinorl.reports.curves import plot_curves

    figure = Figure(figsize=(_WIDTH * len(compared.tasks), _HEIGHT), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    for axes, task in zip(figure.subplots(1, len(compared.tasks), squeeze=False)[0], compared.tasks, strict=True):
        metric = drawn_metric(task.metric, task.groups[0].runs[0])
        key = EVALUATION + metric.name
        groups = {
            group.label: [curves[run.run_id][key] for run in group.runs if key in curves[run.run_id]]
            for group in task.groups
        }
        plot_curves(groups, axes, f"{task.species} {task.stage}", metric.title, metric.form.endswith("%"))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _title(task: Comparison) -> str:
    metric = task.metric
    direction = "more" if metric.better == "up" else "less"
    source = "" if metric is GATE_STEPS else f"; {KEPT}"
    return f"{task.species} {task.stage}: {metric.name}, {direction} is better; interquartile mean of runs{source}"


def _between(metric: Metric, interval: Interval | None) -> str:
    return "–" if interval is None else f"{shown(metric, interval.low)} … {shown(metric, interval.high)}"


def _numbers(verdict: Verdict, metric: Metric) -> str:
    """Return the sentence of a verdict's numbers."""
    improvement = f"{verdict.one} improves on {verdict.other} with probability {verdict.improvement:.0%}"
    if verdict.improvement_interval is not None:
        improvement += f" ({verdict.improvement_interval.low:.0%} … {verdict.improvement_interval.high:.0%})"
    difference = f"difference {_points(metric, verdict.difference)}"
    if verdict.interval is not None:
        difference += f" ({_points(metric, verdict.interval.low)} … {_points(metric, verdict.interval.high)})"
    return f"{improvement}; {difference}{' percentage points' if metric.form.endswith('%') else ''}."


def _points(metric: Metric, difference: float) -> str:
    """Return a difference with its sign; of shares in percentage points."""
    if metric.form.endswith("%"):
        return format(100.0 * difference, f"+{metric.form[:-1]}f")
    return format(difference, f"+{metric.form}")


def _in_labels(values: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether the groups' labels already say the values: ``sac``, ``gamma=0.99``."""
    return all(
        len(own) == 1 and (label.partition("=")[2] or label) in (own[0], own[0][:SHORT])
        for label, own in values.items()
    )


def _differences(differences: Mapping[str, Mapping[str, tuple[str, ...]]]) -> str:
    """Return the first few keys with each group's values."""
    parts = [
        f"{key} ({'; '.join(f'{label}: {_values(key, values)}' for label, values in by_label.items())})"
        for key, by_label in list(differences.items())[:NAMED]
    ]
    more = len(differences) - NAMED
    return ", ".join(parts) + (f" and {more} more keys" if more > 0 else "")


def _values(key: str, values: Sequence[str]) -> str:
    return ", ".join(value[: SHORT if key == COMMIT else 40] or "–" for value in values)


def _ending(compared: Compared) -> list[str]:
    over = [
        f"{verdict.why} {verdict.one} improves on {verdict.other} with probability {verdict.improvement:.0%} "
        f"({verdict.interval.low:.0%} … {verdict.interval.high:.0%}), the mean over {', '.join(verdict.tasks)}."
        for verdict in compared.overall
    ]
    return [*over, *compared.remarks]


def _plain(texts: Sequence[str] | Iterator[str]) -> list[str]:
    return [escape(text) for text in texts]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
