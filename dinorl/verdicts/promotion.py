"""Promotes what a run was trained with into its recipe, if a verdict says that it is better."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dinorl
from dinorl.config import ConfigError, flatten
from dinorl.evaluation.metrics import Metric
from dinorl.files.run_folder import write_text
from dinorl.verdicts.comparison import (
    LEAST_SEEDS,
    Comparison,
    compare,
    curve_keys,
    default_metric,
    metric_named,
    shown,
)
from dinorl.verdicts.recipe import Recipe
from dinorl.verdicts.recipe_text import edited, text_of
from dinorl.verdicts.records import StageRun, read_curves, read_runs
from dinorl.verdicts.retrain import command_for, origin
from dinorl.verdicts.selection import Selection
from dinorl.verdicts.statistics import MOST_SEEDS, Interval
from dinorl.verdicts.values import Changes, Values, differences, in_recipe, newest_by_seed, trained_values, values_of
from dinorl.verdicts.winner import Request, Task, chosen_task

OURS, RECIPES = "the run", "the recipe"  # labels of the compared groups
Groups = tuple[list[StageRun], list[StageRun]]


@dataclass(frozen=True)
class Edit:
    """A file before and after; before is None if it does not exist."""

    path: Path
    before: str | None
    after: str

    def diff(self) -> list[str]:
        """Return the lines of a unified diff."""
        name = os.path.relpath(self.path) if self.path.is_relative_to(Path.cwd()) else str(self.path)
        old, new = (self.before or "").splitlines(), self.after.splitlines()
        return list(difflib.unified_diff(old, new, name if self.before is not None else "/dev/null", name, lineterm=""))


@dataclass(frozen=True)
class Promotion:
    """What would be written, and whether it should be.

    Attributes:
        task: the winner's runs and recipe.
        changes: the recipe's and the run's value, by key.
        comparison: of both; None if no run has the recipe's values.
        refusal: why not; empty if the run's values are better.
        edits: of the recipe's files.
        notes: what a reader must know, a sentence each.
    """

    task: Task
    changes: Changes
    comparison: Comparison | None
    refusal: str
    edits: tuple[Edit, ...]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What was compared, for people."""
        if self.comparison is None:
            return ""
        metric, parts = self.comparison.metric, []
        for group in self.comparison.groups:
            ends = "" if group.interval is None else f" [{_ends(metric, group.interval)}]"
            parts.append(f"{group.label} {shown(metric, group.mean)}{ends}, seeds {', '.join(map(str, group.seeds))}")
        better = "" if self.refusal else f". {self.comparison.verdicts[0].why}"
        return f"{metric.title}: {'; '.join(parts)}{better}"

    def write(self) -> None:
        """Write the files, and check that the recipe now gives the run's values.

        Raises:
            ConfigError: it does not, or a file has changed since; the files are as they were.
        """
        for edit in self.edits:
            if _text(edit.path) != edit.before:
                raise ConfigError(f"{edit.path}: has changed meanwhile", hint="Type the same again")
        expected = flatten(self.task.config) | {key: new for key, (_, new) in self.changes.items()}
        with _restored(self.edits):
            for edit in self.edits:
                edit.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(edit.path, edit.after)
            try:
                wrong = differences(flatten(self.task.recipe.compose()), expected)
            except ConfigError as error:
                raise ConfigError(f"the recipe would be invalid: {error}. Its files are as they were") from error
            if wrong:
                found = ", ".join(f"{key}={text_of(now)}, not {text_of(new)}" for key, (now, new) in wrong.items())
                raise ConfigError(f"the recipe would give {found}. Its files are as they were")


@contextlib.contextmanager
def _restored(edits: Sequence[Edit]) -> Iterator[None]:
    """Restore the files after any error."""
    try:
        yield
    except BaseException:
        for edit in edits:
            if edit.before is not None:
                write_text(edit.path, edit.before)
            else:
                edit.path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # it has other files
                    edit.path.parent.rmdir()
        raise


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def promotion(request: Request) -> Promotion:
    """Find the runs, compare them with today's recipe, and make the changes.

    Raises:
        ConfigError: there is no such run, or nothing of it can be promoted.
    """
    task = chosen_task(request)
    changes = _chosen(task.changes, request.keys)
    groups = _groups(task, changes, request.uri)
    comparison, refusal = _verdict(task, groups, changes, request)
    edits = _edits(task.recipe, changes, _evidence(comparison, refusal, task.run))
    known = () if comparison is None else comparison.notes
    return Promotion(task, changes, comparison, refusal, edits, (*known, *_notes(task, changes, request)))


def _chosen(changes: Changes, keys: Sequence[str]) -> Changes:
    for key in keys:
        if key not in changes:
            expected = f"some of {', '.join(changes)}"
            raise ConfigError(f"the run and the recipe do not differ in {key}", expected=expected)
    return {key: both for key, both in changes.items() if not keys or key in keys}


# The verdict ---------------------------------------------------------------------------------------------------------


def _groups(task: Task, changes: Changes, uri: str | None) -> Groups:
    """Return the runs with the run's values, and those with the recipe's instead of the changes."""
    recipe, own = task.recipe, trained_values(task.run)
    target = own | {key: old for key, (old, _) in changes.items()}
    everything = f"species={recipe.species} stage={recipe.stage} algo={recipe.algo}"
    ours: list[StageRun] = []
    recipes: list[StageRun] = []
    for run in read_runs(Selection.parse(everything), uri):
        values = trained_values(run)
        for group, wanted in ((ours, own), (recipes, target)):
            if changes.keys() <= values.keys() and not differences(wanted, values):
                group.append(run)
    ours = newest_by_seed(ours)
    starts = {run.params.get("warm_start") for run in ours}
    return ours, newest_by_seed(sorted(recipes, key=lambda run: run.params.get("warm_start") not in starts))


def _verdict(task: Task, groups: Groups, changes: Changes, request: Request) -> tuple[Comparison | None, str]:
    """Return the comparison, and why nothing should be promoted."""
    metric = metric_named(request.metric) if request.metric else default_metric(task.run)
    missing = [max(0, LEAST_SEEDS - len(group)) for group in groups]
    if not groups[1]:
        why = f"No verdict: no finished run has the recipe's values, and {task.run.name}'s where they are not promoted."
        return None, _with_commands(task, groups, changes, missing, why)
    curves = read_curves([*groups[0], *groups[1]], curve_keys(metric), request.uri)
    comparison = compare(dict(zip((OURS, RECIPES), groups, strict=True)), metric, curves)
    if comparison.winner == OURS:
        return comparison, ""
    if not comparison.verdicts:
        return comparison, f"No verdict: the runs have no {metric.name}."
    verdict = comparison.verdicts[0]
    if verdict.better or verdict.more_seeds is None or verdict.more_seeds > MOST_SEEDS:
        return comparison, verdict.why
    more = missing if any(missing) else [verdict.more_seeds] * 2
    return comparison, _with_commands(task, groups, changes, more, verdict.why)


def _with_commands(task: Task, groups: Groups, changes: Changes, more: Sequence[int], why: str) -> str:
    """Return a sentence with the commands that train more seeds of each group."""
    left: dict[str, tuple[Any, ...]] = {k: (new,) for k, (_, new) in task.differences.items() if k not in changes}
    if len(changes) == 1 and all(more):
        used = [run for group in groups for run in group]
        parts = [(left | changes, _new_seeds(used, max(more)))]
    else:
        ours = left | {key: (new,) for key, (_, new) in changes.items()}
        parts = [(v, _new_seeds(g, n)) for v, g, n in zip((ours, left), groups, more, strict=True)]
    commands = [command_for(task.run, task.recipe, values, seeds) for values, seeds in parts if seeds]
    return f"{why} Type\n  " + "\n  ".join(commands)


def _new_seeds(runs: Sequence[StageRun], count: int) -> list[int]:
    used = {run.seed for run in runs}
    return [seed for seed in range(len(used) + count) if seed not in used][:count]


def _evidence(comparison: Comparison | None, refusal: str, run: StageRun) -> str:
    """Return the end of the comments: metric, interval, seeds, run, date."""
    if comparison is None:
        said = "no run of the old value"
    elif not comparison.verdicts:
        said = f"no {comparison.metric.name}"
    else:
        verdict, metric = comparison.verdicts[0], comparison.metric
        sign = 1.0 if verdict.one == OURS else -1.0
        said = f"{metric.name} {format(sign * verdict.difference, f'+{metric.form}')}"
        if verdict.interval is not None:
            ends = sorted(sign * end for end in (verdict.interval.low, verdict.interval.high))
            said += f" [{_ends(metric, Interval(*ends))}]"
        seeds = min(len(group.runs) for group in comparison.groups)
        said += f", {seeds} seed{'s' if seeds > 1 else ''}"
    today = datetime.now().astimezone().date().isoformat()
    return f"{'forced: ' if refusal else ''}{said}; run {run.run_id[:8]}, {today}"


def _ends(metric: Metric, interval: Interval) -> str:
    return f"{shown(metric, interval.low)}, {shown(metric, interval.high)}"


# The recipe ----------------------------------------------------------------------------------------------------------


def _edits(recipe: Recipe, changes: Changes, evidence: str) -> tuple[Edit, ...]:
    by_file: dict[Path, Values] = {}
    for key, (_, new) in changes.items():
        by_file.setdefault(recipe.file_of(key), {})[key] = new
    edits = []
    for path, values in by_file.items():
        _check_place(path, recipe)
        comments = {key: f"was {text_of(changes[key][0])}; {evidence}" for key in values}
        edits.append(Edit(path.resolve(), _text(path), edited(path, values, comments)))
    return tuple(edits)


def _check_place(path: Path, recipe: Recipe) -> None:
    """Refuse to change an installed package."""
    package = Path(dinorl.__file__).resolve().parent
    if not path.resolve().is_relative_to(package):
        return
    recipes = package / "conf" / "recipe"
    raise ConfigError(
        f"{path} belongs to the installed package, and the next install would undo the change",
        hint="Copy the recipe and promote into the copy:\n"
        f"  mkdir -p my_conf/recipe && cp -r {recipes / recipe.name} my_conf/recipe/mine\n"
        f"  cp {recipes / recipe.name}.yaml my_conf/recipe/mine.yaml\n"
        "  dinorl promote … --config-dir my_conf --recipe mine",
    )


def _notes(task: Task, changes: Changes, request: Request) -> Iterator[str]:
    """Yield what the change reaches besides, and what it leaves out."""
    recipe = task.recipe
    left = {key: both for key, both in task.differences.items() if key not in changes}
    if left:
        yield f"not promoted, but the run had {_shown(left)}: both groups are compared with these"
    reached: dict[tuple[str, str], list[str]] = {}
    for key in changes:
        path = recipe.file_of(key)
        if others := recipe.others(key, path):
            reached.setdefault((path.name, ",".join(others)), []).append(key)
    for (name, algos), keys in reached.items():
        yield f"{', '.join(keys)}: {name} of {recipe.species} is read with algo={algos} too, which no run shows"
    for ancestor in origin(task.run, request.uri):
        before = Recipe(recipe.name, recipe.species, ancestor.tags["stage"], ancestor.tags["algo"], recipe.searchpath)
        found = differences(values_of(before.compose()), trained_values(ancestor))
        if differing := {k: both for k, both in found.items() if in_recipe(k, before.algo)}:
            yield (
                f"it started from {ancestor.name}, trained with {_shown(differing)}: to promote that too, type "
                f"dinorl promote {ancestor.run_id}"
            )


def _shown(changes: Changes) -> str:
    return ", ".join(f"{key}={text_of(new)} (recipe: {text_of(old)})" for key, (old, new) in changes.items())
