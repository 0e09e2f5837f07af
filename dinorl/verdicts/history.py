"""What one stage run did: its config, its evaluations over environment steps and its gate's verdict.

A history is read from a run folder or a bundle without MLflow, or from MLflow; a run's is the same from both.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from dinorl.config import ConfigError, base_values, stage_label
from dinorl.files.run_folder import BundleFolder, RunFolder, read_status
from dinorl.files.untrusted import read_config, read_json
from dinorl.tracking.describe import acts
from dinorl.verdicts.records import CONSECUTIVE, EVALUATION, RETURN, Curve, Curves, StageRun, kept, read_curves
from dinorl.verdicts.values import parsed

_NULL = f"{EVALUATION}null."


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the policy.

    Attributes:
        steps: environment steps.
        consecutive: evaluations in a row that meet the gate, this one included; None if unknown.
        metrics: by name, as in eval.csv; without those that could not be measured.
    """

    steps: int
    consecutive: int | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class History:
    """A stage run.

    Attributes:
        name: such as ``trex-ppo-s0/3-bite``.
        where: what ``dinorl diagnose`` takes: its folder, MLflow run id or zoo name.
        config: the flattened composed config, as recorded, without what does not act.
        gate: the verdict; empty before the stage has ended.
        evaluations: in order, at least one.
        kept: the one whose bundle was kept.
    """

    name: str
    where: str
    config: Mapping[str, Any]
    gate: str
    evaluations: Sequence[Evaluation]
    kept: Evaluation

    def value(self, key: str) -> Any:
        """Return a config value; of a key that is not recorded, its default in ``conf/base``."""
        return self.config[key] if key in self.config else defaults().get(key)

    @property
    def species(self) -> str:
        """The animal."""
        return str(self.config["species.name"])

    @property
    def stage(self) -> str:
        """The stage: balance, locomotion or behavior."""
        return str(self.config["stage.name"])

    @property
    def label(self) -> str:
        """The stage, the third by its event."""
        return stage_label(self.stage, str(self.config["species.event.name"]))

    @property
    def algo(self) -> str:
        """The algorithm."""
        return str(self.config["algo.name"])

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.value("seed"))

    def event_key(self, role: str) -> str | None:
        """Return the key below ``env`` that has a role in the event, such as ``bite_bonus``; None: it has none."""
        key = self.config.get(f"species.event.keys.{role}")
        return None if key is None else str(key)


def from_curves(name: str, where: str, config: Mapping[str, Any], gate: str, curves: Curves) -> History:
    """Return a history from metrics over environment steps, ``eval/…`` and ``gate/consecutive``.

    Raises:
        ConfigError: there is no evaluation.
    """
    chosen = kept(curves)
    if chosen is None:
        raise ConfigError(f"{where}: it has no evaluation yet, so there is nothing to diagnose")
    values = {key: dict(zip(c.steps.tolist(), c.values.tolist(), strict=True)) for key, c in curves.items()}
    counts = values.get(CONSECUTIVE, {})
    evaluations = [
        Evaluation(
            steps,
            int(counts[steps]) if steps in counts else None,
            {
                key.removeprefix(EVALUATION): found[steps]
                for key, found in values.items()
                if key.startswith(EVALUATION) and steps in found
            },
        )
        for steps in values[RETURN]
    ]
    acting = {key: value for key, value in config.items() if acts(key, str(config["algo.name"]))}
    verdict = "" if gate == "none" else gate
    return History(name, where, acting, verdict, evaluations, next(e for e in evaluations if e.steps == chosen))


def from_folder(folder: Path) -> History:
    """Read a run folder, without MLflow.

    Raises:
        ConfigError: it has no evaluation, or a file is damaged.
    """
    files, status = RunFolder(folder), read_status(folder) or {}
    bundle = BundleFolder(files.best).config
    if not files.eval_csv.is_file():
        raise ConfigError(f"{folder}: it has no {RunFolder.eval_csv.name}, so there is nothing to diagnose")
    config = read_config(bundle) if bundle.is_file() else OmegaConf.load(files.hydra / "config.yaml")
    name = "/".join(folder.absolute().parts[-2:])
    return from_curves(name, str(folder), flat(config), str(status.get("gate", "")), _table(files.eval_csv))


def from_bundle(bundle: Path, where: str) -> History:
    """Read a bundle, such as one of the zoo: the evaluation that it was kept for.

    Raises:
        ConfigError: it has none, or a file is damaged.
    """
    files = BundleFolder(bundle)
    meta = read_json(files.meta)
    steps = np.asarray([meta["timesteps"]])
    curves = {
        f"{EVALUATION}{key}": Curve(steps, np.asarray([value]))
        for key, value in (meta.get("evaluation") or {}).items()
        if isinstance(value, int | float)
    }
    return from_curves(where, where, flat(read_config(files.config)), "", curves)


def from_mlflow(runs: Iterable[StageRun], uri: str | None = None) -> list[History]:
    """Read runs of MLflow; those without an evaluation are left out."""
    runs = list(runs)
    keys = {key for run in runs for key in run.metrics if key.startswith(EVALUATION) and not key.startswith(_NULL)}
    curves = read_curves(runs, [*sorted(keys), CONSECUTIVE], uri)
    return [
        from_curves(run.name, run.run_id, {key: parsed(text) for key, text in run.params.items()}, run.gate, found)
        for run in runs
        if RETURN in (found := curves[run.run_id])
    ]


def _table(path: Path) -> dict[str, Curve]:
    """Return the policy's rows of an eval.csv as curves."""
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.pop("policy") != "policy":
                continue
            steps = int(row.pop("timesteps"))
            met = row.pop("gate").partition("/")[0]  # of 1/2, or none
            points[CONSECUTIVE].append((steps, float(met) if met.isdigit() else 0.0))
            for key, text in row.items():
                if text and math.isfinite(value := float(text)):
                    points[f"{EVALUATION}{key}"].append((steps, value))
    return {
        key: Curve(np.asarray([steps for steps, _ in found]), np.asarray([value for _, value in found]))
        for key, found in points.items()
    }


def flat(config: Any) -> dict[str, Any]:
    """Return a composed config as ``{"ppo.gamma": …}``; lists stay lists."""

    def walk(node: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return dict(walk({str(key): value for key, value in content.items()}, ""))


@lru_cache
def defaults() -> Mapping[str, Any]:
    """Return the keys of ``conf/base`` with their values; an event's keys are not among them."""
    return flat(base_values())
