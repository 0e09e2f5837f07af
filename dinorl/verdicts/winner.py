"""The runs that are to be promoted, with the recipe that they would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dinorl.bundle.bundle import Bundle
from dinorl.config import Config, ConfigError
from dinorl.config.errors import nearest
from dinorl.config.species import same_model
from dinorl.files.run_folder import RunFolder, SearchFiles
from dinorl.tracking.runs import by_id, tagged
from dinorl.tracking.spool import PARENT_TAG, Spool
from dinorl.verdicts.recipe import DEFAULT, Recipe
from dinorl.verdicts.recipe_text import text_of
from dinorl.verdicts.records import StageRun, read_runs
from dinorl.verdicts.selection import DONE, Selection
from dinorl.verdicts.values import (
    Changes,
    check_equal,
    differences,
    in_recipe,
    trained_values,
    typed,
    typed_overrides,
    values_of,
)


@dataclass(frozen=True)
class Request:
    """What is to be promoted.

    Attributes:
        where: a run id, a stage's run folder, a selection, or a search's folder or name.
        keys: only these; empty: all that differ from the recipe.
        metric: of evaluations; None: the stage's.
        recipe: its name; None: the one that the run was composed with.
        searchpath: folders of configs beside dinorl's own.
        uri: of the MLflow server; None: the default.
    """

    where: str
    keys: tuple[str, ...] = ()
    metric: str | None = None
    recipe: str | None = None
    searchpath: tuple[Path, ...] = ()
    uri: str | None = None


@dataclass(frozen=True)
class Task:
    """Runs of one stage, with today's recipe of it."""

    runs: tuple[StageRun, ...]
    recipe: Recipe
    config: Config  # today's

    @property
    def run(self) -> StageRun:
        """The newest run."""
        return self.runs[0]

    @cached_property
    def differences(self) -> Changes:
        """The recipe's and the run's values where they differ, simulation and evaluations included."""
        return differences(values_of(self.config), trained_values(self.run))

    @property
    def changes(self) -> Changes:
        """Those that belong in the recipe."""
        return {key: both for key, both in self.differences.items() if in_recipe(key, self.recipe.algo)}


def chosen_task(request: Request) -> Task:
    """Return the runs of the one stage that differs from its recipe.

    Raises:
        ConfigError: there is no such run, there are several stages, or its recipe or model is of another time.
    """
    task = _one_task(_tasks(request))
    _check_model(task)
    _check_constant(task.run, request.uri)
    return task


def find(where: str, uri: str | None) -> list[StageRun]:
    """Return the finished stage runs that are meant, newest first.

    Args:
        where: see :class:`Request`.
        uri: of the MLflow server.

    Raises:
        ConfigError: there are none.
    """
    path = Path(where)
    if RunFolder(path).status.exists():
        run_id = Spool(path).run_id
        if run_id is None:
            raise ConfigError(f"{where}: has not reached MLflow", hint=f"Type dinorl send {where}")
        return _done(read_runs(Selection.parse(run_id), uri), where)
    folder = SearchFiles(path).search.exists()
    name = path.absolute().name if folder else where
    if folder or not set("=' /") & set(where):
        tags = [run.tags for run in tagged({"search": name}, uri)]
        if tags:
            best = next((one["best_trial"] for one in tags if "best_trial" in one), None)
            if best is None:
                raise ConfigError(f"{where}: no trial of this search has been finished")
            runs = read_runs(Selection.parse(name), uri)
            if own := [run for run in runs if run.tags["lineage"].startswith(f"{best}-s")]:
                return own
            raise ConfigError(f"{where}: {best}, the best, has no finished runs of its own")
    return _done(read_runs(Selection.parse(where), uri), where)


def _done(runs: list[StageRun], where: str) -> list[StageRun]:
    if unfinished := next((run for run in runs if run.tags["status"] != DONE), None):
        raise ConfigError(f"{where}: {unfinished.name} is {unfinished.tags['status']}; only finished runs are promoted")
    return runs


def _tasks(request: Request) -> list[Task]:
    """Return the runs by animal, stage and algorithm, with today's recipes."""
    grouped: dict[tuple[str, str, str], list[StageRun]] = {}
    for run in find(request.where, request.uri):
        grouped.setdefault((run.tags["species"], run.tags["stage"], run.tags["algo"]), []).append(run)
    tasks = []
    for (species, stage, algo), runs in grouped.items():
        name = request.recipe or runs[0].tags.get("recipe") or typed(typed_overrides(runs[0])).get("recipe", DEFAULT)
        recipe = Recipe(name, species, stage, algo, request.searchpath)
        check_equal(runs)
        task = Task(tuple(runs), recipe, recipe.compose())
        _check_known(task)
        tasks.append(task)
    return tasks


def _check_known(task: Task) -> None:
    """Check that every key of the run's recipe exists today."""
    today = values_of(task.config)
    for key, value in trained_values(task.run).items():
        if key not in today and in_recipe(key, task.recipe.algo):
            close = nearest(key, today)
            raise ConfigError(
                f"{task.run.name} was trained with {key}={text_of(value)}, which no longer exists"
                + (f"; the nearest is {close[0]}" if close else ""),
                hint="Train it again",
            )


def _one_task(tasks: Sequence[Task]) -> Task:
    """Return the one task whose runs differ from its recipe."""
    changed = [task for task in tasks if task.changes]
    if len(changed) == 1:
        return changed[0]
    if not changed:
        task = tasks[0]
        raise ConfigError(f"{task.run.name}: recipe {task.recipe.name} has its values already")
    commands = (f"dinorl promote {task.run.run_id}   ({task.run.name})" for task in changed)
    raise ConfigError("runs of several stages differ from their recipes. Type one of\n  " + "\n  ".join(commands))


def _check_model(task: Task) -> None:
    """Check that the animal's model is that of the run, if the run's bundle is here."""
    try:
        recorded = Bundle.open(task.run.folder).meta["mjcf_sha256"]
    except ConfigError:
        return
    if not same_model(recorded, task.config.species):
        raise ConfigError(
            f"{task.run.name}: the model of {task.recipe.species} has changed since", hint="Train it again"
        )


def _check_constant(run: StageRun, uri: str | None) -> None:
    """Refuse a member of a population, whose values changed while it was trained."""
    parent = run.tags.get(PARENT_TAG)
    for found in by_id([parent] if parent else [], uri).values():
        if schedule := found.tags.get("schedule"):
            raise ConfigError(f"{run.name}: no recipe repeats the schedule of a population's member: {schedule}")
