"""Stage runs as a report shows them: the numbers of MLflow and the files of their run folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dinorl.files.run_folder import RunFolder, SweepFiles, read_status
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import OUTPUTS
from dinorl.training.gate import THRESHOLDS
from dinorl.verdicts.records import CONSECUTIVE, DEVIATION, EVALUATION, RETURN, Curves, StageRun, kept, read_curves

NULLS = {"zero": "doing nothing", "random": "at random"}
NAN = float("nan")
REWARD = "eval/reward."  # before the name of a reward term
# Metrics that matter at each stage, beside those of its gate.
SHOWN = {
    1: ("return_mean", "length_mean", "fall_rate"),
    2: ("return_mean", "fall_rate", "forward_speed_mean_mps", "gait.alternation", "gait.stride_hz"),
    3: ("return_mean", "fall_rate", "success_rate", "time_to_event_mean_s", "forward_speed_mean_mps"),
}


@dataclass(frozen=True)
class StageRecord:
    """One stage run of a report.

    Attributes:
        run: of MLflow.
        curves: its evaluations over environment steps.
        folder: its run folder, or None if that is not here.
    """

    run: StageRun
    curves: Curves
    folder: Path | None

    @property
    def index(self) -> int:
        """1, 2 or 3."""
        return int(self.run.tags["stage_index"])

    @property
    def species(self) -> str:
        """The animal, for people."""
        return self.run.params.get("species.title", self.run.tags["species"])

    @property
    def lineages(self) -> tuple[str, ...]:
        """The lineages that it belongs to; the first has its folder."""
        own = self.run.tags.get("lineage", "")
        others = self.run.tags.get("lineages", "").split(",")
        return tuple(dict.fromkeys(name for name in (own, *others) if name)) or (self.run.name,)

    @cached_property
    def status(self) -> Mapping[str, Any]:
        """The content of ``status.json``; empty if the folder is not here."""
        return (read_status(self.folder) if self.folder else None) or {}

    @cached_property
    def steps(self) -> int | None:
        """Environment steps of the evaluation whose bundle was kept; None without evaluations."""
        return kept(self.curves)

    @property
    def last(self) -> int:
        """Environment steps of the last evaluation."""
        return max((int(curve.steps[-1]) for curve in self.curves.values() if curve.steps.size), default=0)

    @property
    def passed_at(self) -> int | None:
        """Environment steps at which the gate was passed; None if it was not."""
        required = float(self.run.params.get("curriculum.required_consecutive", "1"))
        gate = self.curves.get(CONSECUTIVE)
        if gate is None or not (gate.values >= required).any():
            return None
        return int(gate.steps[(gate.values >= required).argmax()])

    def value(self, metric: str) -> float:
        """Return a metric of the kept bundle's evaluation; NaN if it has none."""
        curve = self.curves.get(EVALUATION + metric)
        return NAN if curve is None or self.steps is None else curve.exactly(self.steps)

    def null(self, policy: str, metric: str) -> float:
        """Return a metric of a null policy, ``zero`` or ``random``; NaN if it is not known."""
        logged = self.run.metrics.get(f"{EVALUATION}null.{policy}.{metric}")
        return self._nulls.get(policy, {}).get(metric, NAN) if logged is None else logged

    @cached_property
    def _nulls(self) -> dict[str, dict[str, float]]:
        """Metrics of the null policies in ``eval.csv``."""
        if self.folder is None:
            return {}
        try:
            with RunFolder(self.folder).eval_csv.open(newline="", encoding="utf-8") as file:
                rows = {row["policy"]: row for row in csv.DictReader(file) if row["policy"] in NULLS}
        except (OSError, KeyError):
            return {}
        return {name: {key: _number(value) for key, value in row.items()} for name, row in rows.items()}

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """The gate's thresholds that are set, by their key."""
        values = {key: self.run.params.get(f"curriculum.{key}", "None") for key in THRESHOLDS}
        return {key: float(value) for key, value in values.items() if value not in ("None", "null")}


@dataclass(frozen=True)
class Unlogged:
    """A stage of a sweep's folder that MLflow does not know, such as one that failed before its run began."""

    lineage: str
    index: int
    stage: str
    folder: Path
    status: Mapping[str, Any] = field(default_factory=dict)


def read_stages(runs: Sequence[StageRun], uri: str | None = None, sweep: Path | None = None) -> list[StageRecord]:
    """Read evaluations and find run folders of stage runs.

    Args:
        runs: of MLflow.
        uri: of the MLflow server; default: the embedded store.
        sweep: folder of their sweep, if it is known.
    """
    wanted = {metric for index in SHOWN for metric in SHOWN[index]} | set(THRESHOLDS.values())
    keys = [RETURN, DEVIATION, CONSECUTIVE, *(EVALUATION + metric for metric in wanted if metric != "return_mean")]
    terms = {key for run in runs for key in run.metrics if key.startswith(REWARD)}
    curves = read_curves(runs, [*keys, *sorted(terms)], uri)
    return [StageRecord(run, curves[run.run_id], _place(run, sweep)) for run in runs]


def _place(run: StageRun, sweep: Path | None) -> Path | None:
    """Return a run's folder if it is on this machine and no other run has replaced it."""
    name = Path(run.tags["lineage"]) / f"{run.tags['stage_index']}-{run.tags['stage']}"
    sweeps = [sweep, OUTPUTS / run.tags["sweep"] if run.tags["sweep"] else None]
    candidates = [*(folder / name for folder in sweeps if folder is not None), run.folder]
    return next((folder for folder in candidates if Spool(folder).run_id == run.run_id), None)


def unlogged(folder: Path, known: Iterable[StageRecord]) -> list[Unlogged]:
    """Return the stages of a sweep's folder that MLflow does not know."""
    try:
        planned = json.loads(SweepFiles(folder).plan.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    logged = {record.folder.resolve() for record in known if record.folder}
    found = []
    for name in planned:
        lineage, _, stage = name.partition("/")
        index, _, title = stage.partition("-")
        status = read_status(folder / name)
        if status is not None and (folder / name).resolve() not in logged and index.isdigit():
            found.append(Unlogged(lineage, int(index), title, folder / name, status))
    return found


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return NAN
