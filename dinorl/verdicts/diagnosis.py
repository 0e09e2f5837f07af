"""Diagnoses stage runs: which symptoms of the playbook hold, by which numbers, and the overrides to paste."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dinorl.bundle.locate import resolve, zoo
from dinorl.config import ConfigError
from dinorl.config.identity import NOT_TRAINED_ON
from dinorl.files.run_folder import RunFolder
from dinorl.verdicts.history import Evaluation, History, from_bundle, from_folder, from_mlflow
from dinorl.verdicts.measures import MEASURES, NotMeasured, Value
from dinorl.verdicts.playbook import Comparison, Playbook, Remedy, Symptom, load
from dinorl.verdicts.records import read_runs
from dinorl.verdicts.remedies import Override, overrides
from dinorl.verdicts.selection import RUN_ID, Selection


@dataclass(frozen=True)
class Evidence:
    """A comparison that holds, with its number."""

    comparison: Comparison
    value: Value

    def __str__(self) -> str:
        measure, one = MEASURES[self.comparison.measure], self.comparison
        word, bound = ("above", one.above) if one.above is not None else ("below", one.below)
        which = "" if one.of == "kept" else f", {one.of}"
        how = f" ({self.value.how})" if self.value.how else ""
        return f"{measure.title}: {self.value.number:{measure.form}}{which}, {word} {bound:{measure.form}}{how}"


@dataclass(frozen=True)
class Proposal:
    """A remedy with its overrides for the run."""

    remedy: Remedy
    overrides: Sequence[Override]


@dataclass(frozen=True)
class Found:
    """A symptom that holds."""

    name: str
    symptom: Symptom
    evidence: Sequence[Evidence]


@dataclass(frozen=True)
class Diagnosis:
    """What holds for one run, or for runs that differ in their seeds.

    Attributes:
        runs: the run, or the runs.
        found: symptoms that hold, in the playbook's order.
        unmeasured: title → why, of symptoms that may hold.
    """

    runs: Sequence[History]
    found: Sequence[Found]
    unmeasured: Mapping[str, str]

    def proposals(self, found: Found) -> list[Proposal]:
        """Return the remedies of a symptom that change the run's config, most effective first."""
        changes = ((remedy, overrides(remedy, self.runs[0])) for remedy in found.symptom.remedies)
        return [Proposal(remedy, changed) for remedy, changed in changes if changed]


def histories(where: str, uri: str | None = None, most: int | None = None) -> list[History]:
    """Return the stage runs that are meant.

    Args:
        where: run folders, a folder above them, a bundle or a zoo name; else an MLflow run id or a selection.
        uri: of the MLflow server; default ``MLFLOW_TRACKING_URI``, else the embedded store.
        most: only the newest so many of a selection.

    Raises:
        ConfigError: there is none, or none has an evaluation.
    """
    path = Path(where)
    if path.is_dir():
        if folders := _run_folders(path):
            return [from_folder(folder) for folder in folders]
    if path.is_dir() or where in zoo():
        return [from_bundle(resolve(where), where)]
    selection = Selection.parse(where)
    if RUN_ID in selection.values:
        selection = Selection.parse(where, status=())
    found = from_mlflow(read_runs(selection, uri)[:most], uri)
    if not found:
        raise ConfigError(f"{where}: no evaluation yet, so there is nothing to diagnose")
    return found


def diagnose(runs: Sequence[History], playbook: Playbook | None = None) -> list[Diagnosis]:
    """Diagnose each run, and runs that differ in nothing but their seeds together.

    Args:
        runs: of any animals and stages.
        playbook: default ``conf/playbook.yaml``.
    """
    book = load() if playbook is None else playbook
    single = {name: symptom for name, symptom in book.items() if not symptom.compares_seeds}
    seeds = {name: symptom for name, symptom in book.items() if symptom.compares_seeds}
    together = [group for group in _by_seed(runs) if len({run.seed for run in group}) > 1]
    return [_diagnosis([run], single) for run in runs] + [_diagnosis(group, seeds) for group in together]


def in_short(folder: Path) -> list[str]:
    """Return the symptoms of a run folder, a line each, and the command that shows more."""
    [diagnosis] = diagnose([from_folder(folder)])
    lines = [f"{found.symptom.title} ({'; '.join(map(str, found.evidence))})" for found in diagnosis.found]
    more = f"why, and what to try: dinorl diagnose {shlex.quote(str(folder))}"
    return [*(lines or ["it has no symptom of the playbook"]), more]


# ----------------------------------------------------------------------------------------------------------------------


def _run_folders(path: Path) -> list[Path]:
    """Return a run folder, or those of a lineage or a sweep; links to shared stages are left out."""
    table = RunFolder.eval_csv.name
    if (path / table).is_file():
        return [path]
    below = (file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/{table}"))
    return sorted(folder for folder in below if not folder.is_symlink())


def _by_seed(runs: Sequence[History]) -> list[list[History]]:
    """Return groups of runs with the same config but for the seed; each seed's first run."""
    groups: dict[str, dict[int, History]] = defaultdict(dict)
    ignored = {"seed", *NOT_TRAINED_ON}
    for run in runs:
        same = sorted((k, str(v)) for k, v in run.config.items() if not ignored & {k, k.partition(".")[0]})
        groups[str(same)].setdefault(run.seed, run)
    return [list(group.values()) for group in groups.values()]


def _diagnosis(runs: Sequence[History], symptoms: Playbook) -> Diagnosis:
    first, found, unmeasured = runs[0], [], {}
    for name, symptom in symptoms.items():
        if first.stage not in symptom.stages or symptom.algo not in (None, first.algo):
            continue
        try:
            evidence = _evidence(symptom, runs)
        except NotMeasured as error:
            unmeasured[symptom.title] = str(error)
            continue
        if evidence:
            found.append(Found(name, symptom, evidence))
    return Diagnosis(runs, found, unmeasured)


def _evidence(symptom: Symptom, runs: Sequence[History]) -> list[Evidence]:
    """Return the comparisons of a symptom that hold; empty if it does not hold.

    Raises:
        NotMeasured: a number that decides is missing.
    """
    required, missing = _held(symptom.when, runs)
    if len(required) + len(missing) < len(symptom.when):
        return []
    enough, unknown = _held(symptom.one_of, runs)
    if symptom.one_of and not enough and not unknown:
        return []
    if missing or symptom.one_of and not enough:
        raise NotMeasured("; ".join(dict.fromkeys([*missing, *unknown])))
    return [*required, *enough]


def _held(comparisons: Sequence[Comparison], runs: Sequence[History]) -> tuple[list[Evidence], list[str]]:
    """Return the comparisons that hold, and why others could not be measured."""
    held, missing = [], []
    for one in comparisons:
        try:
            value = _measured(one, runs)
        except NotMeasured as error:
            missing.append(str(error))
            continue
        if one.holds(value.number):
            held.append(Evidence(one, value))
    return held, missing


def _measured(one: Comparison, runs: Sequence[History]) -> Value:
    measure, run = MEASURES[one.measure], runs[0]
    if measure.of_seeds is not None:
        return measure.of_seeds(runs)
    of_run = measure.of_run
    assert of_run is not None
    chosen: dict[str, Callable[[], Value]] = {
        "kept": lambda: of_run(run, run.kept),
        "last": lambda: of_run(run, run.evaluations[-1]),
        "first": lambda: of_run(run, run.evaluations[0]),
        "highest": lambda: max(_all(of_run, run), key=lambda value: value.number),
        "lowest": lambda: min(_all(of_run, run), key=lambda value: value.number),
    }
    return chosen[one.of]()


def _all(of_run: Callable[[History, Evaluation], Value], run: History) -> Iterator[Value]:
    return (of_run(run, evaluation) for evaluation in run.evaluations)
