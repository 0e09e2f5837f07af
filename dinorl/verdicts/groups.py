"""Sorts stage runs into groups to compare, and groups into tasks (a species at a stage)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dinorl.config import ConfigError
from dinorl.config.errors import nearest
from dinorl.config.identity import affects_training
from dinorl.tracking.describe import GROUPS
from dinorl.verdicts.notes import list_of, value
from dinorl.verdicts.records import StageRun, known_keys, read_runs
from dinorl.verdicts.selection import COMMIT, TAGS, Selection, words

Groups = Mapping[str, Sequence[StageRun]]  # by label
SHORT = 8  # characters of a commit
_VARIED = ("algo", "sweep", COMMIT, *GROUPS)  # tags
_SAME = {"seed", "algo.name", "stage.name", "stage.index", "species.name"}  # no groups, or the same as a tag


@dataclass(frozen=True)
class Task:
    """Groups of runs of a species at a stage.

    Attributes:
        species: its name.
        index: of the stage.
        stage: the third by its event.
        groups: runs by label; every group has some.
        notes: what a reader must know, a sentence each.
    """

    species: str
    index: int
    stage: str
    groups: Groups
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Such as ``trex bite``."""
        return f"{self.species} {self.stage}"


def select(
    texts: Sequence[str], key: str | None = None, uri: str | None = None
) -> tuple[dict[str, list[StageRun]], list[str]]:
    """Return groups of finished runs, of each selection or of each value of a key, and a note if some have no value.

    Args:
        texts: selections, see :class:`Selection`.
        key: a tag or parameter whose values are the groups.
        uri: see :func:`dinorl.verdicts.records.read_runs`.

    Raises:
        ConfigError: a selection fits no run, two share a run, or runs do not have the key.
    """
    check_apart(texts)
    found = {label: read_runs(Selection.parse(text), uri) for label, text in zip(labels(texts), texts, strict=True)}
    if key is not None:
        every = {run.run_id: run for runs in found.values() for run in runs}.values()
        groups = by_key(every, key)
        lacking = len(every) - sum(map(len, groups.values()))
        return groups, [f"{lacking} of {len(every)} runs have no {key} and are left out."] if lacking else []
    owner: dict[str, str] = {}
    for label, runs in found.items():
        for run in runs:
            if owner.setdefault(run.run_id, label) != label:
                raise ConfigError(
                    f"{run.name} is in both groups, {owner[run.run_id]} and {label}", hint="Narrow the selections"
                )
    return found, []


def check_apart(texts: Sequence[str]) -> None:
    """Refuse a selection that is there twice, or without quotes, so that its words would be groups.

    Raises:
        ConfigError: two texts are the same, or they are single conditions on different keys.
    """
    for text in texts:
        if texts.count(text) > 1:
            raise ConfigError(f"{text} is there twice, but a group cannot be compared with itself")
    keys = {text.partition("=")[0] for text in texts if len(words(text)) == 1 and "=" in text}
    if len(keys) > 1:
        raise ConfigError(
            f"{' '.join(texts)}: each argument is a group of its own",
            hint=f"For runs that meet all conditions type quotes: '{' '.join(texts)}'",
        )


def labels(texts: Sequence[str]) -> list[str]:
    """Return the words of each selection that others do not have, or the selection itself."""
    split = [words(text) for text in texts]
    common = set.intersection(*map(set, split)) if len(split) > 1 else set()
    found = [" ".join(word for word in own if word not in common) for own in split]
    return found if all(found) and len(set(found)) == len(found) else list(texts)


def by_key(runs: Iterable[StageRun], key: str) -> dict[str, list[StageRun]]:
    """Return the runs by their value of a tag or parameter, numbers ascending.

    Raises:
        ConfigError: no run has the key.
    """
    runs = list(runs)
    known = known_keys(runs)
    if key not in known:
        raise _unknown(key, known, runs)
    found: dict[str, list[StageRun]] = {}
    for run in runs:
        if (own := value(run, key)) is not None:
            found.setdefault(_label(key, own), []).append(run)
    return dict(sorted(found.items(), key=lambda one: _order(one[0])))


def _unknown(key: str, known: set[str], runs: Sequence[StageRun]) -> ConfigError:
    close = nearest(key, known)
    problem = f"--by {key}: runs have no such key" + (f"; the nearest is {close[0]}" if close else "")
    return ConfigError(problem, hint=f"Here {varied(varying(runs))}")


def varying(runs: Iterable[StageRun]) -> list[str]:
    """Return the tags and parameters that differ between runs of the same task, but the seed; tags first."""
    by_task: dict[tuple[str, str], list[StageRun]] = {}
    for run in runs:
        by_task.setdefault((run.tags["species"], run.stage), []).append(run)
    found: dict[str, None] = {}
    for own in by_task.values():
        keys = dict.fromkeys([*_VARIED, *(key for run in own for key in run.params if affects_training(key))])
        found |= {key: None for key in keys if len({value(run, key) for run in own} - {None}) > 1}
    return sorted(found.keys() - _SAME, key=lambda key: (key not in _VARIED, key))


def varied(keys: Sequence[str]) -> str:
    """Return the end of a sentence that says which keys vary."""
    return f"{list_of(keys)} {'varies' if len(keys) == 1 else 'vary'}" if keys else "nothing but the seed varies"


def tasks(groups: Groups) -> list[Task]:
    """Return the tasks that the groups' runs are of, each run once.

    A seed that a group has twice with the same config counts once: the newest run.

    Raises:
        ConfigError: there are several groups, but no task has runs of two.
    """
    found: dict[tuple[str, int, str], dict[str, list[StageRun]]] = {}
    for label, runs in groups.items():
        for run in runs:
            task = (run.tags["species"], int(run.tags["stage_index"]), run.stage)
            found.setdefault(task, {}).setdefault(label, []).append(run)
    if len(groups) > 1 and all(len(own) < 2 for own in found.values()):
        has = "; ".join(f"{label}: {', '.join(_tasks_of(label, found))}" for label in groups)
        raise ConfigError(
            f"the groups have no task in common, and only runs of the same species and stage can be compared ({has})"
        )
    made = []
    for (species, index, stage), own in sorted(found.items()):
        once = {label: _newest(runs) for label, runs in own.items()}
        notes = [_left_out(label, runs, once[label]) for label, runs in own.items() if len(runs) > len(once[label])]
        made.append(Task(species, index, stage, once, tuple(notes)))
    return made


def _tasks_of(label: str, found: Mapping[tuple[str, int, str], Groups]) -> list[str]:
    return [f"{species} {stage}" for (species, _, stage), own in sorted(found.items()) if label in own]


def _newest(runs: Sequence[StageRun]) -> list[StageRun]:
    newest: dict[object, StageRun] = {}
    for run in sorted(runs, key=lambda run: -run.started):
        newest.setdefault((run.seed, _config(run)), run)
    return sorted(newest.values(), key=lambda run: run.seed)


def _config(run: StageRun) -> object:
    """Return what two runs that are the same training have in common: their job, or else their parameters."""
    if job := run.tags.get("job"):
        return job
    start = Path(run.params.get("warm_start", "")).parent.name  # <sweep>/<lineage>/<n>-<stage>
    return start, frozenset((key, own) for key, own in run.params.items() if affects_training(key))


def _left_out(label: str, runs: Sequence[StageRun], once: Sequence[StageRun]) -> str:
    older = sorted({run.seed for run in runs if run not in once})
    seeds = f"seed {older[0]} was" if len(older) == 1 else f"seeds {', '.join(map(str, older))} were"
    return f"{label}: {seeds} trained more than once with the same config; the newest run counts."


def _label(key: str, text: str) -> str:
    if key == COMMIT:
        return text[:SHORT] or "no commit"
    if key in TAGS and not text.isdigit():
        return text
    try:
        text = format(float(text), ".8g")  # 0.30000000000000004
    except ValueError:
        pass
    return f"{key.rpartition('.')[2]}={text}"


def _order(label: str) -> tuple[float, str]:
    try:
        return float(label.rpartition("=")[2]), label
    except ValueError:
        return float("inf"), label
