"""What a reader of a comparison must know: what differs between and within groups, and which runs lack a score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dinorl.config.identity import affects_training
from dinorl.evaluation.metrics import Metric
from dinorl.verdicts.records import StageRun
from dinorl.verdicts.selection import COMMIT

NOT_PROVEN = "not proven"  # a gate
NAMED = 8  # keys in a sentence
GATE = ("curriculum.min_", "curriculum.max_", "curriculum.required_consecutive")  # keys of a gate


def differing(groups: Mapping[str, Sequence[StageRun]]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the commit and the parameters whose values differ between groups, with their values by label.

    Keys that a group lacks, such as another algorithm's, do not count.
    """
    found = {}
    for key in _keys(run for group in groups.values() for run in group):
        values = {label: tuple(sorted(_values(runs, key))) for label, runs in groups.items()}
        if all(values.values()) and len(set(values.values())) > 1:
            found[key] = values
    return found


def differing_keys(runs: Sequence[StageRun], start: str | tuple[str, ...] = "") -> list[str]:
    """Return the commit and the parameters whose values differ between runs, of those with a start."""
    return [key for key in _keys(runs) if key.startswith(start) and len(_values(runs, key)) > 1]


def notes_on(
    groups: Mapping[str, Sequence[StageRun]], scores: Mapping[str, Sequence[float]], metric: Metric
) -> Iterator[str]:
    """Yield what a reader must know of the groups, a sentence each."""
    labels: dict[str, list[str]] = {}  # by sentence
    for label, runs in groups.items():
        for sentence in _notes_on(runs, scores[label], metric):
            labels.setdefault(sentence, []).append(label)
    for sentence, of in labels.items():
        yield f"{', '.join(of)}: {sentence}"
    if gates := differing_keys([run for runs in groups.values() for run in runs], GATE):
        yield f"The gates differ: {list_of(gates)}."


def _notes_on(runs: Sequence[StageRun], scores: Sequence[float], metric: Metric) -> Iterator[str]:
    lacking = sum(map(math.isnan, scores))
    if lacking:
        yield f"{lacking} of {_runs(len(runs))} no {metric.name} at the kept evaluation."
    if len(scores) - lacking == 1:
        yield "one seed has no interval; it takes two."
    if unproven := sum(run.gate == NOT_PROVEN for run in runs):
        yield f"{unproven} of {len(runs)} gates are not proven and do not count as passed."
    if mixed := differing_keys(runs):
        yield f"mixed configs, for runs differ in {list_of(mixed)}."
    elif twice := [seed for seed, count in Counter(run.seed for run in runs).items() if count > 1]:
        yield f"mixed starts, for seed {min(twice)} has runs with different earlier stages."


def list_of(keys: Sequence[str]) -> str:
    """Return keys for a sentence, the first few by name."""
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _runs(count: int) -> str:
    return f"{count} runs have" if count > 1 else "1 run has"


def _keys(runs: Iterable[StageRun]) -> list[str]:
    """Return the keys that make runs differ but for the seed."""
    found = dict.fromkeys(key for run in runs for key in run.params)
    return [COMMIT, *(key for key in found if key != "seed" and affects_training(key))]


def value(run: StageRun, key: str) -> str | None:
    """Return a run's tag or parameter, or None."""
    return run.tags.get(key, run.params.get(key))


def _values(runs: Iterable[StageRun], key: str) -> set[str]:
    return {found for run in runs if (found := value(run, key)) is not None}
