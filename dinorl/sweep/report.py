"""Prints a sweep's plan and its results."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from rich.table import Table

from dinorl.files.run_folder import RunFolder
from dinorl.sweep.plan import Plan, plan_rows
from dinorl.tracking.terminal import console, say
from dinorl.training.gate import MISSED


def print_plan(plan: Plan, store: str, folder: Path | None = None, done: Set[str] = frozenset()) -> None:
    """Print every lineage's stages.

    Args:
        plan: to print.
        store: the MLflow uri.
        folder: of the sweep, named below the table.
        done: keys of the jobs that are done.
    """
    trained, named = len(plan.jobs) - len(done), sum(len(lineage.jobs) for lineage in plan.lineages)
    shared = f", {named - len(plan.jobs)} of them shared" if named > len(plan.jobs) else ""
    shared += f", {len(done)} done before" if done else ""
    title = f"{_count(len(plan.lineages), 'lineage')}, {_count(named, 'stage')}{shared}: {trained} to train"
    table = Table(title=title, title_justify="left")
    for column in ("lineage", "stage", "algo", "steps", "starts"):
        table.add_column(column, justify="right" if column == "steps" else "left", overflow="fold")
    last = None
    for row in plan_rows(plan, done):
        table.add_row(row[0] if row[0] != last else "", *row[1:])
        last = row[0]
    console().print(table)
    say(f"in {folder}; numbers in {store}" if folder is not None else f"numbers would be in {store}")


def print_results(plan: Plan, states: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Print each stage's result, the errors, and how to watch the last policy.

    Args:
        plan: of the sweep.
        states: final state of each job, by its key.
        folder: of the sweep.
    """
    table = Table(title="results", title_justify="left")
    for column in ("lineage", "stage", "status", "gate", "steps", "time", "return", "m/s", "falls", "success"):
        table.add_column(
            column, justify="left" if column in ("lineage", "stage", "status", "gate") else "right", overflow="fold"
        )
    last = None
    for lineage in plan.lineages:
        for job in lineage.jobs:
            state = states[job.key]
            name = lineage.name if lineage.name != last else ""
            last = lineage.name
            note = " (shared)" if job.lineage != lineage.name else " (done before)" if state.get("reused") else ""
            table.add_row(name, job.title, str(state["status"]) + note, *_cells(state))
    console().print(table)
    failed = [job for job in plan.jobs if states[job.key]["status"] in ("FAILED", "NOT RUN")]
    for job in failed:
        log = RunFolder(folder / job.folder).log
        where = f"; log: {log}" if log.exists() else ""
        say(f"{states[job.key]['status']}: {job.folder}: {states[job.key].get('error', '')}{where}")
    for job in plan.jobs:
        if states[job.key].get("gate") in MISSED:
            say(f"NOT PASSED: {job.folder}: the budget ended before the gate was passed ({states[job.key]['gate']})")
            say(f"why:      dinorl diagnose {folder / job.folder}")
    done = [job for job in plan.jobs if states[job.key]["status"] == "DONE"]
    if done:
        say(f"watch:    dinorl play {folder / done[-1].folder}")
        say("compare:  make ui")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _cells(state: Mapping[str, Any]) -> tuple[str, ...]:
    evaluation = state.get("evaluation") or {}
    if not evaluation:
        return ("",) * 7
    return (
        str(state["gate"]),
        f"{state['timesteps']:,}",
        f"{state['seconds']:.0f} s",
        f"{evaluation['return_mean']:.0f}",
        f"{evaluation['forward_speed_mean_mps']:.2f}",
        f"{evaluation['fall_rate']:.0%}",
        f"{evaluation['success_rate']:.0%}",
    )
