"""Prints a search's plan and outcome, and writes them as tables and figures."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from dinorl.config import SearchConfig
from dinorl.config.overrides import Setting
from dinorl.files.run_folder import RunFolder, SearchFiles, whole_file
from dinorl.search.importance import MIN_TRIALS
from dinorl.search.outcome import PRUNED, Outcome, Row
from dinorl.search.population import Change, interval
from dinorl.search.space import Axis
from dinorl.search.trials import Trials, shown
from dinorl.tracking.describe import table
from dinorl.tracking.terminal import console, say

_SHOWN = 10  # best trials
_COMMAND = ("plan_only", "resume")  # say nothing about a recipe


def print_plan(
    trials: Trials, count: int, axes: Sequence[Axis], fixed: Sequence[Setting], options: SearchConfig, grace: int
) -> None:
    """Print the space, the number of trials and what is the same for all."""
    budget = sum(trials.budgets)
    names = " → ".join(job.title for job in trials.each[0].lineages[0].jobs[trials.first :])
    seeds = f" with {options.seeds} seeds" if options.seeds > 1 else ""
    table = Table(title=f"{options.algorithm} search, {count} trials{seeds}: {names}", title_justify="left")
    for column in ("key", "values"):
        table.add_column(column, overflow="fold")
    for axis in axes:
        table.add_row(axis.key, axis.text())
    console().print(table)
    same = shlex.join(_typed(one, one.values[0]) for one in fixed if not one.swept and one.name not in _COMMAND)
    say(f"same for all: {same or 'the defaults'}")
    if shared := trials.shared().jobs:
        say(f"trained once before: {', '.join(dict.fromkeys(job.title for job in shared))}")
    pruning = {
        "asha": f"asha lets one in {options.reduction:g} go on at {grace:,} steps, and at each {options.reduction:g} "
        "times as many",
        "median": f"from {grace:,} steps on, trials below the median end",
        "pbt": f"every {interval(options, budget):,} steps, {options.quantile:.0%} resume from the best, with other "
        "values",
    }.get(options.scheduler, "none is pruned")
    say(f"at most {budget * options.seeds * count:,} environment steps, {budget:,} per seed and trial; {pruning}")


def write(outcome: Outcome, axes: Sequence[Axis], folder: Path) -> None:
    """Write the tables and figures into the search's folder."""
    from dinorl.search.plots import plot_keys, plot_schedules, plot_scores

    files = SearchFiles(folder)
    rows: list[list[object]] = [
        [row.trial.number, row.outcome, row.steps, row.trained, f"{row.score:.6g}", *row.trial.values.values()]
        for row in outcome.rows
    ]
    head = ["trial", "outcome", "steps", "trained", "score", *(axis.key for axis in axes)]
    if outcome.takeovers is not None:
        head.append("schedule")
        rows = [[*cells, schedule_text(row.schedule)] for cells, row in zip(rows, outcome.rows, strict=True)]
    _write(files.trials, head, rows)
    _write(
        files.importance, ["key", "importance", "low", "high"],
        [[one.key, f"{one.mean:.4f}", f"{one.low:.4f}", f"{one.high:.4f}"] for one in outcome.importance or ()],
    )  # fmt: skip
    with whole_file(files.scores) as path:
        plot_scores(outcome, path)
    with whole_file(files.keys) as path:
        (plot_keys if outcome.takeovers is None else plot_schedules)(outcome, axes, path)


def schedule_text(schedule: Sequence[Change]) -> str:
    """Return a policy's values over environment steps, and in which trials it had them."""
    return "; ".join(f"{one.steps}: {shown(one.values)} (trial {one.trial})" for one in schedule)


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with whole_file(path) as building, building.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def print_outcome(outcome: Outcome, axes: Sequence[Axis], folder: Path, command: str) -> None:
    """Print the best trials, the prunings, the steps saved, the keys' importance and what to type next.

    Args:
        outcome: of the search.
        axes: its keys.
        folder: of the search.
        command: trains the best recipe.
    """
    over = [row for row in outcome.rows if row.outcome != PRUNED]
    table = Table(title="best trials", title_justify="left")
    for column in ("trial", *(axis.key for axis in axes), "outcome", "steps", "score"):
        table.add_column(column, justify="right" if column in ("steps", "score") else "left", overflow="fold")
    for row in outcome.rows[:_SHOWN]:
        table.add_row(str(row.trial.number), *row.trial.values.values(), row.outcome, f"{row.steps:,}", _number(row))
    console().print(table)
    if len(outcome.rows) > _SHOWN:
        say(f"all {len(outcome.rows)}: {SearchFiles(folder).trials}")
    if prunings := outcome.prunings():
        at = ", ".join(f"{number} at {steps:,} steps" for steps, number in prunings)
        say(f"pruned {len(outcome.rows) - len(over)} of {len(outcome.rows)}: {at}")
    if outcome.takeovers is None:
        share = outcome.trained / max(1, outcome.unpruned)
        say(f"{outcome.trained:,} environment steps, {share:.0%} of the {outcome.unpruned:,} at most without pruning")
        _print_importance(outcome)
    else:
        say(f"{outcome.trained:,} environment steps; {outcome.takeovers} times a trial resumed from a better one")
        _print_schedule(outcome)
    for row in outcome.rows:
        if row.error:
            log = RunFolder(folder / row.trial.lineages[0].jobs[-1].folder).log
            say(f"FAILED: {row.trial.name}: {row.error}; log: {log}")
    if command:
        say(f"best:     {command}")
    if outcome.best is not None:
        say(f"watch:    dinorl play {shlex.quote(str(folder / outcome.best.trial.lineages[0].jobs[-1].folder))}")
    say(f"figures:  {SearchFiles(folder).scores}, {SearchFiles(folder).keys.name}")


def _print_schedule(outcome: Outcome) -> None:
    if outcome.best is None:
        return
    values = outcome.best.trial.values
    table = Table(title=f"how the policy of trial {outcome.best.trial.number} was trained", title_justify="left")
    for column in ("from steps", "in trial", *values):
        table.add_column(column, justify="left" if column in values else "right", overflow="fold")
    for one in outcome.best.schedule:
        table.add_row(f"{one.steps:,}", str(one.trial), *one.values.values())
    console().print(table)


def note(outcome: Outcome, axes: Sequence[Axis], winner: str, command: str) -> str:
    """Return the note of the search's MLflow run, in Markdown.

    Args:
        outcome: of the search.
        axes: its keys.
        winner: the command that trains the best recipe.
        command: the search's own.
    """
    head = ["trial", *(axis.key for axis in axes), "outcome", "steps", "score"]
    rows = [
        [row.trial.name, *row.trial.values.values(), row.outcome, f"{row.steps:,}", _number(row)]
        for row in outcome.rows[:_SHOWN]
    ]
    best = f"best:\n\n```sh\n{winner}\n```\n\n" if winner else ""
    return f"**{len(outcome.rows)} trials**\n\n{table(head, rows)}\n\n{best}```sh\n{command}\n```\n"


def _print_importance(outcome: Outcome) -> None:
    if outcome.importance is None:
        compared = sum(bool(row.curve) for row in outcome.rows)
        say(f"importance of keys: too few trials to tell ({compared}; it takes {MIN_TRIALS}), or equal scores")
        return
    table = Table(
        title=f"importance for the score at {outcome.common:,} steps, which every trial reached",
        title_justify="left",
    )
    for column in ("key", "share of the variance", "95 % interval", ""):
        table.add_column(column, overflow="fold")
    for one in outcome.importance:
        table.add_row(one.key, f"{one.mean:.2f}", f"{one.low:.2f} … {one.high:.2f}", "" if one.clear else "uncertain")
    console().print(table)


def _number(row: Row) -> str:
    return f"{row.score:.2f}" if row.curve else ""


def winning_command(outcome: Outcome, settings: Sequence[Setting], stages: Sequence[str], options: SearchConfig) -> str:
    """Return the command that trains the best recipe; empty if no trial was finished, or values have changed."""
    if outcome.best is None or outcome.takeovers is not None:
        return ""
    values = outcome.best.trial.values
    words = ["dinorl", f"stage={','.join(stages)}"]
    for setting in (one for one in settings if one.name not in _COMMAND):
        words.append(_typed(setting, values.get(setting.typed, str(setting.values[0]))))
    if options.seeds > 1:
        seeds = ",".join(str(lineage.jobs[0].config.seed) for lineage in outcome.best.trial.lineages)
        words = [word for word in words if not word.startswith("seed=")] + [f"seed={seeds}"]
    return shlex.join(words)


def _typed(setting: Setting, value: str | None) -> str:
    return setting.typed if value is None or setting.typed.startswith("~") else f"{setting.typed}={value}"
