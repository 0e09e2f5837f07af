"""Stage runs as a report shows them: the numbers of MLflow and the files of their run folders."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dinorl.files.run_folder import RunFolder, SweepFiles, read_status
from dinorl.tracking.runs import artifact
from dinorl.tracking.spool import Spool
from dinorl.tracking.store import FOLDER_TAG, OUTPUTS
from dinorl.training.gate import THRESHOLDS
from dinorl.verdicts.records import (
    CONSECUTIVE,
    DEVIATION,
    EVALUATION,
    RETURN,
    Curve,
    Curves,
    StageRun,
    kept,
    read_curves,
)

NULLS = {"zero": "doing nothing", "random": "at random"}
NAN = float("nan")
Order = tuple[tuple[int, str], ...]
REWARD = "eval/reward."  # before the name of a reward term
# Metrics that matter at each stage, beside those of its gate.
SHOWN = {
    1: ("return_mean", "length_mean", "fall_rate"),
    2: ("return_mean", "fall_rate", "forward_speed_mean_mps", "gait.alternation", "gait.stride_hz"),
    3: ("return_mean", "fall_rate", "success_rate", "time_to_event_mean_s", "forward_speed_mean_mps"),
}


@dataclass(frozen=True, eq=False)
class StageRecord:
    """One stage run of a report.

    Attributes:
        run: of MLflow.
        curves: its evaluations over environment steps.
        folder: its run folder, or None if that is not here.
        sweep: put before its lineages' names, where runs of several sweeps are shown.
        uri: of the MLflow server; None: the default.
    """

    run: StageRun
    curves: Curves
    folder: Path | None
    sweep: str = ""
    uri: str | None = None

    @property
    def index(self) -> int:
        """1, 2 or 3."""
        return int(self.run.tags["stage_index"])

    @property
    def title(self) -> str:
        """The animal, for people."""
        return self.run.params.get("species.title", self.run.tags["species"])

    @property
    def lineages(self) -> tuple[str, ...]:
        """The lineages that it belongs to; the first has its folder."""
        own, others = self.run.tags.get("lineage", ""), self.run.tags.get("lineages", "").split(",")
        names = dict.fromkeys(name for name in (own, *others) if name)
        return tuple(f"{self.sweep}/{name}" if self.sweep else name for name in names) or (self.run.name,)

    @property
    def order(self) -> tuple[Order, int]:
        """Its place among runs of its stage: runs that differ only by their seed are neighbors."""
        return natural(self.lineages[0].replace(f"-s{self.run.seed}", "", 1)), self.run.seed

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
        """Metrics of the null policies: of ``eval.csv``, or of MLflow if the folder is not here."""
        if self.folder is None:
            return self._nulls_of_mlflow()
        try:
            with RunFolder(self.folder).eval_csv.open(newline="", encoding="utf-8") as file:
                rows = {row["policy"]: row for row in csv.DictReader(file) if row["policy"] in NULLS}
        except (OSError, KeyError):
            return {}
        return {name: {key: _number(value) for key, value in row.items()} for name, row in rows.items()}

    def _nulls_of_mlflow(self) -> dict[str, dict[str, float]]:
        content = artifact(self.run.artifacts, RunFolder.null_policies.name, self.uri)
        with contextlib.suppress(ValueError):
            found = json.loads(content or "{}")  # an older run has none
            return {
                policy: {k: NAN if v is None else float(v) for k, v in row.items()} for policy, row in found.items()
            }
        return {}

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
    status: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name, as of a run."""
        return f"{self.lineage}/{self.index}-{self.stage}"


def read_stages(runs: Sequence[StageRun], uri: str | None = None, sweep: Path | None = None) -> list[StageRecord]:
    """Read evaluations and find run folders of stage runs.

    Args:
        runs: of MLflow; of each stage of a lineage the newest counts.
        uri: of the MLflow server; default: the embedded store.
        sweep: folder of their sweep, if it is known.
    """
    runs = list(_newest(runs))
    several = len({run.tags["sweep"] for run in runs}) > 1
    curves: dict[str, dict[str, Curve]] = {}
    for index in SHOWN:
        own = [run for run in runs if run.tags["stage_index"] == str(index)]
        metrics = [EVALUATION + metric for metric in {*SHOWN[index], *THRESHOLDS.values()}]
        terms = {key for run in own for key in run.metrics if key.startswith(REWARD)}
        curves |= read_curves(own, sorted({RETURN, DEVIATION, CONSECUTIVE, *metrics, *terms}), uri)
    return [
        StageRecord(run, curves[run.run_id], _place(run, sweep), run.tags["sweep"] if several else "", uri)
        for run in runs
    ]


def _newest(runs: Iterable[StageRun]) -> Iterable[StageRun]:
    """Return the newest run of each stage of each lineage; a folder that was deleted and trained again has several."""
    newest: dict[tuple[str, ...], StageRun] = {}
    for run in sorted(runs, key=lambda run: -run.started):
        lineage = run.tags["lineage"] or run.run_id
        newest.setdefault((run.tags["sweep"], lineage, run.tags["stage_index"]), run)
    return newest.values()


def _place(run: StageRun, sweep: Path | None) -> Path | None:
    """Return a run's folder if it is on this machine and no other run has replaced it."""
    name = Path(run.tags["lineage"]) / f"{run.tags['stage_index']}-{run.tags['stage']}"
    sweeps = [sweep, OUTPUTS / run.tags["sweep"] if run.tags["sweep"] else None]
    written = [run.folder] if FOLDER_TAG in run.tags else []
    candidates = [*(folder / name for folder in sweeps if folder is not None), *written]
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


def natural(text: str) -> Order:
    """Return a sort key under which ``trial-2`` comes before ``trial-10``."""
    parts = re.split(r"(\d+)", text)
    return tuple((int(part) if part.isdecimal() else 0, part) for part in parts)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return NAN
