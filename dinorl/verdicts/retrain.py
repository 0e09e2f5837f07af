"""How a run was begun, and the command that trains more like it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dinorl.config.overrides import hydra_value
from dinorl.tracking.runs import tagged
from dinorl.tracking.store import FOLDER_TAG
from dinorl.verdicts.recipe import DEFAULT, Recipe
from dinorl.verdicts.recipe_text import text_of
from dinorl.verdicts.records import StageRun

_PLAIN = re.compile(r"[\w./-]+")  # needs no quotes in Hydra's grammar


def origin(run: StageRun, uri: str | None) -> Iterator[StageRun]:
    """Yield the stage runs that a run started from, the last first, as far as MLflow has them."""
    while (start := _start(run)) is not None and "'" not in start:
        found = next((one for one in tagged({FOLDER_TAG: start}, uri) if "stage" in one.tags), None)
        if found is None:
            return
        run = StageRun(*found)
        yield run


def command_for(run: StageRun, recipe: Recipe, values: Mapping[str, Sequence[Any]], seeds: Iterable[int]) -> str:
    """Return the command that trains more seeds like a run.

    Args:
        run: whose stages before are trained too, if it was part of a curriculum.
        recipe: of its stage.
        values: that differ from the recipe, by key; several make a sweep.
        seeds: to train.
    """
    start = _start(run)
    whole = start is not None and Path(start).is_relative_to(run.folder.parent.parent)
    scope = f"{run.tags['stage_index']}." if whole else ""
    words = ["dinorl", *(word for folder in recipe.searchpath for word in ("--config-dir", str(folder)))]
    words += [f"recipe={recipe.name}"] if recipe.name != DEFAULT else []
    words += [f"species={recipe.species}", f"algo={recipe.algo}"]
    if not whole:
        words.append(f"stage={recipe.stage}")
        words += [f"warm_start={start if _PLAIN.fullmatch(start) else hydra_value(start)}"] if start is not None else []
    for key, several in values.items():
        words.append(f"{scope}{key}={','.join(text_of(value).replace(' ', '') for value in several)}")
    return shlex.join([*words, f"seed={','.join(map(str, seeds))}"])


def _start(run: StageRun) -> str | None:
    start = run.params.get("warm_start")
    return None if start in (None, "None") else start
