"""Stage runs in MLflow that nobody trained: their config is composed, their evaluations are given."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import Metric, Param

from dinorl.config import Config, compose, flatten
from dinorl.tracking.store import FOLDER_TAG, client, default_uri

STEPS = 250_000  # of an evaluation
_times = itertools.count(1_764_000_000_000)  # ms
_composed: dict[tuple[str, ...], Config] = {}


def made_run(
    *overrides: str,
    scores: Sequence[float] = (0.5,),
    metric: str = "success_rate",
    seed: int = 0,
    sweep: str = "made",
    lineage: str | None = None,
    gate: str = "passed",
    tags: dict[str, str] | None = None,
    params: dict[str, object] | None = None,
) -> str:
    """Make a run in the default store and return its id.

    Args:
        overrides: compose it.
        scores: of its evaluations; the last one's bundle is kept.
        metric: of the scores.
        seed, sweep, lineage, gate: tags.
        tags: more tags.
        params: more parameters; None as a value takes one away.
    """
    if overrides not in _composed:
        _composed[overrides] = compose(list(overrides))
    config = _composed[overrides]
    lineage = lineage or f"{config.species.name}-{config.algo.name}-s{seed}"
    folder = Path("outputs", sweep, lineage, f"{config.stage.index}-{config.stage.name}").absolute()
    known = {
        "species": config.species.name, "stage": config.stage.name, "stage_index": str(config.stage.index),
        "algo": config.algo.name, "seed": str(seed), "lineage": lineage, "sweep": sweep, "status": "DONE",
        "gate": gate, FOLDER_TAG: str(folder),
    } | (tags or {})  # fmt: skip
    values = {key: str(value) for key, value in (flatten(config) | {"seed": seed} | (params or {})).items()}
    for key in [key for key, value in (params or {}).items() if value is None]:
        values.pop(key)
    points = {"eval/return_mean": range(len(scores)), "eval/return_std": [0.0] * len(scores), f"eval/{metric}": scores}
    mlflow, now = client(default_uri()), next(_times)
    name = f"{lineage}/{config.stage.index}-{config.stage_label}"
    run_id = str(mlflow.create_run("0", start_time=now, tags=known, run_name=name).info.run_id)
    logged = [Metric(key, float(v), now, STEPS * i) for key, each in points.items() for i, v in enumerate(each, 1)]
    pairs = [Param(key, value) for key, value in values.items()]
    mlflow.log_batch(run_id, metrics=logged, params=pairs[:100])
    mlflow.log_batch(run_id, params=pairs[100:])
    mlflow.set_terminated(run_id, "FINISHED", now)
    return run_id
