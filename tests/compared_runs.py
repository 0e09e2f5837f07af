"""Stage runs in MLflow that nobody trained, with evaluations as given."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from mlflow.entities import Metric, Param, RunTag

from dinorl.tracking.store import client, default_uri

STEPS = 100_000  # from one evaluation to the next
STAGES = {"balance": 1, "locomotion": 2, "behavior": 3}
EVENTS = {"trex": "bite", "velociraptor": "strike"}
PARAMS = {
    "algo.name": "ppo", "ppo.learning_rate": "0.0001", "ppo.policy_kwargs.net_arch": "[128, 128]",
    "env.alive_bonus": "1.0", "curriculum.max_fall_rate": "0.02", "curriculum.min_success_rate": "None",
    "sim.threads": "1", "resume": "True",
}  # fmt: skip
_times = itertools.count(1_764_000_000_000, 1000)  # ms


class Evaluation(dict[str, float]):
    """Metrics of one evaluation.

    Args:
        rank: mean return; its standard deviation is 1.
        consecutive: passes of the gate in a row.
        metrics: others.
    """

    def __init__(self, rank: float, consecutive: int = 0, **metrics: float) -> None:
        named = {f"eval/{name}": value for name, value in metrics.items()}
        super().__init__({"eval/return_mean": rank, "eval/return_std": 1.0, "gate/consecutive": consecutive} | named)


def made(
    evaluations: Sequence[Evaluation],
    *,
    stage: str = "behavior",
    species: str = "trex",
    seed: int = 0,
    sweep: str = "made",
    algo: str = "ppo",
    gate: str = "passed",
    status: str = "DONE",
    commit: str = "1234567890abcdef",
    job: str | None = None,
    params: Mapping[str, str | None] = {},  # noqa: B006  read only
) -> str:
    """Make a run in the default store, of two minutes, and return its id.

    Args:
        evaluations: a step each.
        stage, species, seed, sweep, algo, gate, status, commit, job: tags.
        params: others than :data:`PARAMS`; None takes one away.
    """
    label = EVENTS[species] if stage == "behavior" else stage
    name = f"{species}-{algo}-s{seed}/{STAGES[stage]}-{label}"
    tags = {
        "species": species, "stage": stage, "stage_index": str(STAGES[stage]), "algo": algo, "seed": str(seed),
        "lineage": f"{species}-{algo}-s{seed}", "sweep": sweep, "gate": gate, "status": status, "git_sha": commit,
    } | ({"job": job} if job else {})  # fmt: skip
    own = {"species.event.name": EVENTS[species], "algo.name": algo, "seed": str(seed)}
    values = {key: value for key, value in (PARAMS | own | dict(params)).items() if value is not None}
    now, mlflow = next(_times), client(default_uri())
    points = [
        Metric(key, value, now, STEPS * i)
        for i, one in enumerate(evaluations, 1)
        for key, value in one.items()
    ] + [Metric("time/stage_s", 120.0, now, STEPS * len(evaluations))]  # fmt: skip
    run_id = str(mlflow.create_run("0", start_time=now, run_name=name).info.run_id)
    mlflow.log_batch(
        run_id, points, [Param(key, value) for key, value in values.items()], [RunTag(*tag) for tag in tags.items()]
    )
    mlflow.set_terminated(run_id, "FINISHED", now)
    return run_id
