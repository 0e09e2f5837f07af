"""Stage runs in MLflow that nobody trained: their tags, parameters and evaluations are given."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag

from dinorl.config import Config, compose, flatten
from dinorl.tracking.store import FOLDER_TAG, client, default_uri

STEPS = 250_000  # from one evaluation to the next
STAGES = {"balance": 1, "locomotion": 2, "behavior": 3}
EVENTS = {"trex": "bite", "velociraptor": "strike"}
# A few parameters, for tests that need no composed config.
PARAMS = {
    "algo.name": "ppo", "ppo.learning_rate": "0.0001", "ppo.policy_kwargs.net_arch": "[128, 128]",
    "env.alive_bonus": "1.0", "curriculum.max_fall_rate": "0.02", "curriculum.min_success_rate": "None",
    "sim.threads": "1", "resume": "True",
}  # fmt: skip
_BATCH = 100  # parameters
_times = itertools.count(1_764_000_000_000, 1000)  # ms
_composed: dict[tuple[str, ...], Config] = {}


class Evaluation(dict[str, float]):
    """Metrics of one evaluation, as MLflow names them.

    Args:
        rank: mean return.
        consecutive: passes of the gate in a row.
        metrics: others.
    """

    def __init__(self, rank: float, consecutive: int = 0, **metrics: float) -> None:
        named = {f"eval/{name}": value for name, value in metrics.items()}
        super().__init__({"eval/return_mean": rank, "eval/return_std": 1.0, "gate/consecutive": consecutive} | named)


def plain_run(
    evaluations: Sequence[Evaluation],
    *,
    stage: str = "behavior",
    species: str = "trex",
    seed: int = 0,
    sweep: str = "made",
    algo: str = "ppo",
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    experiment: str = "0",
) -> str:
    """Make a run with few parameters in the default store, of two minutes, and return its id.

    Args:
        evaluations: one each :data:`STEPS`.
        stage, species, seed, sweep, algo: tags.
        tags: more tags.
        params: others than :data:`PARAMS`.
        experiment: its id; that of the default has no place for artifacts.
    """
    label = EVENTS[species] if stage == "behavior" else stage
    lineage = f"{species}-{algo}-s{seed}"
    known = {
        "species": species, "stage": stage, "stage_index": str(STAGES[stage]), "algo": algo, "seed": str(seed),
        "lineage": lineage, "sweep": sweep, "gate": "passed", "status": "DONE", "git_sha": "1234567890abcdef",
        "recipe": "default",
    } | (tags or {})  # fmt: skip
    own = {"species.event.name": EVENTS[species], "algo.name": algo, "seed": str(seed)}
    return _write(f"{lineage}/{STAGES[stage]}-{label}", known, PARAMS | own | (params or {}), evaluations, experiment)


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
        "gate": gate, "recipe": "default", FOLDER_TAG: str(folder),
    } | (tags or {})  # fmt: skip
    values = {key: str(value) for key, value in (flatten(config) | {"seed": seed} | (params or {})).items()}
    for key in [key for key, value in (params or {}).items() if value is None]:
        values.pop(key)
    evaluations = [Evaluation(float(i), **{metric: score}) for i, score in enumerate(scores)]
    return _write(f"{lineage}/{config.stage.index}-{config.stage_label}", known, values, evaluations)


def _write(
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    evaluations: Sequence[Evaluation],
    experiment: str = "0",
) -> str:
    now, mlflow = next(_times), client(default_uri())
    metrics = [
        Metric(key, float(value), now, STEPS * i)
        for i, one in enumerate(evaluations, 1)
        for key, value in one.items()
    ]  # fmt: skip
    metrics.append(Metric("time/stage_s", 120.0, now, STEPS * len(evaluations)))
    pairs = [Param(key, value) for key, value in params.items()]
    run_id = str(mlflow.create_run(experiment, start_time=now, run_name=name).info.run_id)
    mlflow.log_batch(run_id, metrics, pairs[:_BATCH], [RunTag(*tag) for tag in tags.items()])
    if pairs[_BATCH:]:
        mlflow.log_batch(run_id, params=pairs[_BATCH:])
    mlflow.set_terminated(run_id, "FINISHED", now)
    return run_id
