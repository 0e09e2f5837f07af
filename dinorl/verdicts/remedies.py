"""Overrides to paste: a remedy's values for one run, and the command that repeats the run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dinorl.config import ALGORITHMS, ConfigError, compose, flatten
from dinorl.config.check import checked
from dinorl.config.identity import affects_training
from dinorl.config.overrides import hydra_value
from dinorl.config.schema import config_type
from dinorl.config.strict import known_keys
from dinorl.config.together import check_together, missing_need
from dinorl.config.tree import options
from dinorl.verdicts.history import History, defaults
from dinorl.verdicts.playbook import ALGO, Change, Remedy
from dinorl.verdicts.recipe_text import text_of

GROUPS = ("species", "stage", "algo")  # chosen as a whole
_COMMAND = {"seed": 0, "warm_start": None, "resume": True, "plan_only": False}  # if not recorded
_UNQUOTED = re.compile(r"[\w./+-]+")  # in Hydra's grammar


@dataclass(frozen=True)
class Override:
    """One key with its new value, and the one that the run had."""

    key: str
    value: Any
    was: Any

    def __str__(self) -> str:
        return assigned(self.key, self.value)


def overrides(remedy: Remedy, run: History) -> list[Override]:
    """Return what a remedy changes in a run; empty if it does not apply, or the run has these values already."""
    if remedy.stages is not None and run.stage not in remedy.stages or remedy.algo not in (None, run.algo):
        return []
    keys = {_key(name, run): change for name, change in remedy.change.items()}
    if None in keys or remedy.needs is not None and not _value(remedy.needs, run):
        return []
    found = [Override(key, _changed(key, change, run), run.value(key)) for key, change in keys.items() if key]
    found = [one for one in found if one.value != one.was]
    changed = {one.key: one.value for one in found}
    # an older run's config may lack keys of today
    return found if found and (_works(changed, run) or not _works({}, run)) else []


def repeat(run: History) -> list[str]:
    """Return the arguments that repeat a run: its groups, seed and start, and how it differs from its recipe.

    Empty if its animal is not in ``conf/species``: only who trained it knows its config folder.
    """
    groups = [f"{group}={run.config[f'{group}.name']}" for group in GROUPS]
    if run.species not in options("species"):
        return []
    recipes = {name: _differences(run, [*groups, f"recipe={name}"]) for name in options("recipe")}
    nearest = min(recipes, key=lambda name: (len(recipes[name]), name != "default"))
    recipe = [] if nearest == "default" else [f"recipe={nearest}"]
    return [*groups, *recipe, assigned("seed", run.seed), *recipes[nearest], *_start(run)]


def command(arguments: Sequence[str]) -> str:
    """Return a command line that a shell can take."""
    return shlex.join(["dinorl", *arguments])


def assigned(key: str, value: Any) -> str:
    """Return ``key=value`` in Hydra's grammar."""
    plain = not isinstance(value, str) or _UNQUOTED.fullmatch(value)
    return f"{key}={text_of(value).replace(' ', '') if plain else hydra_value(value)}"


# ----------------------------------------------------------------------------------------------------------------------


def _key(name: str, run: History) -> str | None:
    """Return a playbook's key as the run's; None if its animal or algorithm has no such key."""
    head, _, rest = name.partition(".")
    if rest.startswith("{"):
        key = run.event_key(rest.strip("{}"))
        return None if key is None else f"{head}.{key}"
    if head == ALGO:
        return f"{run.algo}.{rest}"
    return None if head in ALGORITHMS and head != run.algo else name


def _value(name: str, run: History) -> Any:
    key = _key(name, run)
    return None if key is None else run.value(key)


def _changed(key: str, change: Change, run: History) -> Any:
    """Return a key's new value; its own where there is no number to change."""
    own = run.value(key)
    whole = isinstance(defaults().get(key), int)
    if change.set is not None:
        return change.set if isinstance(change.set, str) else _rounded(change.set, whole)
    start = own if change.of is None else _value(change.of, run)
    if isinstance(start, list):
        factors = change.times if isinstance(change.times, list) else [change.times] * len(start)
        return [_rounded(one * (factor or 1.0)) for one, factor in zip(start, factors, strict=True)]
    if isinstance(start, str) or start is None and change.at_least is None or isinstance(change.times, list):
        return own
    value = (start or 0.0) * (1.0 if change.times is None else change.times)
    if change.at_least is not None:
        value = max(value, change.at_least)
    if change.at_most is not None:
        value = min(value, change.at_most)
    return _rounded(value, whole)


def _rounded(value: float, whole: bool = False) -> float:
    """Return a number with three digits, or a whole one."""
    return round(value) if whole else float(f"{value:.3g}")


def _works(changed: Mapping[str, Any], run: History) -> bool:
    """Whether the run's config takes the new values, and each has an effect beside the others."""
    event = {f"env.{key}" for name, key in run.config.items() if name.startswith("species.event.keys.")}
    known = {*known_keys(algorithm=run.algo), *event}
    recorded = {key: value for key, value in run.config.items() if key in known or key.partition(".")[0] in GROUPS}
    try:  # as dinorl.config.build, without OmegaConf, which is slow
        config = checked(config_type(run.algo), _nested({**_COMMAND, **defaults(), **recorded, **changed}))
        check_together(config)
    except ConfigError:
        return False
    return all(missing_need(key, config) is None for key in changed)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"ppo.gamma": …}`` as ``{"ppo": {"gamma": …}}``."""
    content: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        node = content
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return content


def _differences(run: History, arguments: list[str]) -> list[str]:
    """Return how the run's config differs from what arguments compose, but for the groups and the seed."""
    others = {"species", "stage", "seed", *ALGORITHMS} - {run.algo}
    return [
        assigned(key, run.config[key])
        for key, value in flatten(compose(arguments)).items()
        if run.config.get(key, value) != value
        and affects_training(key)
        and key != "algo.name"
        and key.partition(".")[0] not in others
    ]


def _start(run: History) -> list[str]:
    start = run.config.get("warm_start")
    return [] if start is None or run.value("curriculum.hand_over") == "nothing" else [assigned("warm_start", start)]
