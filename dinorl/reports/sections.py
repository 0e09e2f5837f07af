"""The parts of a page: a section for each stage of an animal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dinorl.config import ConfigError
from dinorl.evaluation.metrics import Metric
from dinorl.reports import shares
from dinorl.reports.comparison import header, row, sentences
from dinorl.reports.curves import COLORS, HELD, plot_curves
from dinorl.reports.figures import inline_svg, new_axes
from dinorl.reports.films import Film
from dinorl.reports.groups import group_names, grouped
from dinorl.reports.stages import StageRecord
from dinorl.reports.tables import MISSING, Table, stage_table, verdict
from dinorl.verdicts.comparison import Comparison, compare, default_metric, metric_named, refuse_returns, shown
from dinorl.verdicts.records import EVALUATION
from dinorl.verdicts.selection import DONE

DRAWN = 8  # groups: more lines cannot be told apart
_SIZE = (5.6, 3.2)  # inches
_DASHES = {"zero": "--", "random": ":"}

Groups = Mapping[str, Sequence[StageRecord]]


@dataclass(frozen=True)
class Panel:
    """A figure.

    Attributes:
        title: above it.
        svg: the drawing.
        alt: what it shows, in words.
    """

    title: str
    svg: str
    alt: str


@dataclass(frozen=True)
class Shown:
    """A film with its names."""

    label: str
    verdict: str
    film: Film


@dataclass(frozen=True)
class Section:
    """One stage of one animal.

    Attributes:
        title: such as ``3 bite``.
        outcome: of the comparison in a few words.
        table: metrics of every run, beside the nulls.
        groups: the comparison's numbers.
        verdicts: and what a reader must know, a sentence each.
        notes: which runs and groups are left out, a sentence each.
        curves: learning curves.
        legend: color and group of the curves.
        shares: a panel each group.
        share_table: the last shares, which name the colors too.
        palette: color of each reward term.
        films: of its runs.
    """

    title: str
    outcome: str
    table: Table
    groups: Table
    verdicts: list[str]
    notes: list[str]
    curves: list[Panel]
    legend: list[tuple[str, str]]
    shares: list[Panel]
    share_table: Table
    palette: dict[str, str]
    films: list[Shown]


def make_sections(records: Sequence[StageRecord], films: Sequence[Film]) -> list[Section]:
    """Return the sections of an animal, by stage.

    Args:
        records: its stage runs.
        films: of all runs.
    """
    names, palette, found = group_names(records), shares.colors(records), []
    for index in sorted({record.index for record in records}):
        own = sorted((record for record in records if record.index == index), key=lambda one: one.order)
        found.append(_section(own, grouped(own, names), films, palette))
    return found


def _section(records: Sequence[StageRecord], groups: Groups, films: Sequence[Film], palette: dict[str, str]) -> Section:
    metric = default_metric(records[0].run)
    done, notes = _done(groups)
    found = _compared(done, metric)
    drawn = _drawn(found, done)
    if len(drawn) < len(done):
        notes.append(f"The figures show the best {len(drawn)} of {len(done)} groups.")
    panels, last = _shares(drawn, palette)
    return Section(
        title=f"{records[0].index} {records[0].run.stage.replace('_', ' ')}",
        outcome=_outcome(found),
        table=stage_table(records, lambda record: record.lineages[0]),
        groups=Table(
            tuple((title, "") for title in header(metric)), tuple(row(group, metric) for group in found.groups)
        ),
        verdicts=_verdicts(found),
        notes=notes,
        curves=[_curve_panel(drawn, one, records) for one in _drawn_metrics(metric, records)],
        legend=[(COLORS[i % len(COLORS)], label) for i, label in enumerate(drawn)],
        shares=panels,
        share_table=last,
        palette=palette,
        films=[
            Shown(film.record.lineages[0], verdict(film.record)[1], film)
            for film in films
            if film.record in records and (film.video or film.link)
        ],
    )


def _done(groups: Groups) -> tuple[Groups, list[str]]:
    """Return the runs that are done, by group, or all runs if none is; and what is left out."""
    done = {label: [one for one in group if one.run.tags.get("status") == DONE] for label, group in groups.items()}
    runs, kept = sum(map(len, groups.values())), sum(map(len, done.values()))
    if kept == runs:
        return groups, []
    if not kept:
        return groups, ["No run of this stage is done: numbers are those so far."]
    count = "1 run that is" if runs - kept == 1 else f"{runs - kept} runs that are"
    note = f"Verdict, curves and shares leave out {count} not done."
    return {label: group for label, group in done.items() if group}, [note]


def _compared(groups: Groups, metric: Metric) -> Comparison:
    curves = {one.run.run_id: one.curves for group in groups.values() for one in group}
    return compare({label: [one.run for one in group] for label, group in groups.items()}, metric, curves)


def _drawn(found: Comparison, groups: Groups) -> dict[str, Sequence[StageRecord]]:
    """Return the groups in the figures: the best ones if there are many."""
    if len(groups) <= DRAWN:
        return dict(groups)
    sign = -1.0 if found.metric.better == "up" else 1.0
    best = sorted(found.groups, key=lambda group: math.inf if math.isnan(group.mean) else sign * group.mean)
    kept = {group.label for group in best[:DRAWN]}
    return {label: group for label, group in groups.items() if label in kept}


# Verdicts -----------------------------------------------------------------------------------------------------------


def _outcome(found: Comparison) -> str:
    """Return the verdict in a few words."""
    title = found.metric.title
    if len(found.groups) > 1:
        return f"No winner by {title}." if found.winner is None else f"{found.winner} is the best by {title}."
    group, interval = found.groups[0], found.groups[0].interval
    text = f"{title[0].upper()}{title[1:]}: {shown(found.metric, group.mean)}"
    if interval is None:
        return f"{text}, one seed."
    between = f"{shown(found.metric, interval.low)} … {shown(found.metric, interval.high)}"
    return f"{text}, 95 % interval {between}, {len(group.measured)} seeds."


def _verdicts(found: Comparison) -> list[str]:
    """Return the verdicts, the closest first, and what a reader must know, a sentence each."""
    if len(found.groups) == 1:
        return [f"There is one group of runs, so there is nothing to compare. {_outcome(found)}", *found.notes]
    closest = sorted(found.verdicts, key=lambda verdict: abs(verdict.difference))[:DRAWN]
    more = len(found.verdicts) - len(closest)
    rest = [f"{more} more groups are further from {closest[0].one}."] if more else []
    return [*sentences(replace(found, verdicts=tuple(closest))), *rest]


# Figures ------------------------------------------------------------------------------------------------------------


def _drawn_metrics(metric: Metric, records: Sequence[StageRecord]) -> list[Metric]:
    """Return the metric of the verdict, and the return where returns can be compared."""
    own = metric_named("return_mean")
    try:
        refuse_returns(own, [record.run for record in records])
    except ConfigError:
        return [metric]
    return [metric, own]


def _curve_panel(groups: Groups, metric: Metric, records: Sequence[StageRecord]) -> Panel:
    key = EVALUATION + metric.name
    curves = {label: [one.curves[key] for one in group if key in one.curves] for label, group in groups.items()}
    canvas, axes = new_axes(*_SIZE)
    plot_curves(curves, axes, "", "", metric.form.endswith("%"))
    if legend := axes.get_legend():
        legend.remove()  # the page has its own, for any names
    axes.set_xlabel("environment steps")
    for policy, style in _DASHES.items():
        values = [value for one in records if not math.isnan(value := one.null(policy, metric.name))]
        if values:
            axes.axhline(sum(values) / len(values), color="#888888", linestyle=style, linewidth=1.0)
    ends = "; ".join(
        f"{label}: {shown(metric, sum(curve.values[-1] for curve in own) / len(own))} at the end"
        for label, own in curves.items()
        if own
    )
    return Panel(metric.title, inline_svg(canvas), f"{metric.title} over environment steps. {ends}; {HELD}.")


def _shares(groups: Groups, palette: Mapping[str, str]) -> tuple[list[Panel], Table]:
    """Return a panel for each group, and the last shares as a table."""
    found = {label: shares.merged(one) for label, group in groups.items() if (one := shares.shares(group)) is not None}
    names = list(dict.fromkeys(name for one in found.values() for name in one.terms))
    panels, last = [], {}
    low, high = shares.extent(list(found.values()))
    for label, one in found.items():
        last[label] = {name: f"{values[-1]:+.1%}" for name, values in one.terms.items()}
        text = ", ".join(f"{name} {share}" for name, share in last[label].items())
        canvas = shares.draw(one, palette, low, high)
        panels.append(Panel(label, inline_svg(canvas), f"Reward shares of {label}, at the end: {text}."))
    head = (("term", "share at the end"), *((label, "") for label in found))
    rows = tuple((name, *(own.get(name, MISSING) for own in last.values())) for name in names)
    return panels, Table(head, rows)
