"""Two real machines, as far as Ray can tell: nothing is shared but an MLflow server."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import HEAD, OTHER, Cluster, two_machines

COMMAND = (
    sys.executable, "-m", "dinorl", "species=trex", "stage=balance,locomotion", "seed=0,1", "sweep.name=s",
    "experiment=debug", "sim.n_envs=32", "ppo.n_steps=8", "ppo.n_epochs=1", "curriculum.timesteps=20480",
    "eval.every=2048", "curriculum.min_avg_reward=1e9",
    "hydra/launcher=ray", "hydra.launcher.ray.init.address=auto",
)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path, made_store: Path) -> Iterator[Cluster]:
    try:
        with two_machines(tmp_path / "home", made_store) as machines:
            yield machines
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces can be made here: {error}")


def sent_from_other(cluster: Cluster) -> bool:
    """Return whether a bundle of a stage that trains on the other machine has arrived at MLflow's server."""
    sweeps = cluster.elsewhere / "outputs" / "s"
    with contextlib.suppress(FileNotFoundError):  # replaced meanwhile
        for status in sweeps.glob("*/*/status.json"):
            plan = json.loads((cluster.folder / "outputs" / "s" / "plan.json").read_text())
            job = plan[str(status.parent.relative_to(sweeps))]
            lists = cluster.store.glob(f"artifacts/dinorl-bundles/*/{job}/list-*.json")
            if '"RUNNING"' in status.read_text() and any('"steps": 0,' not in path.read_text() for path in lists):
                return True
    return False


def test_lost_machine_loses_nothing(cluster: Cluster) -> None:
    """One machine goes in the middle; each stage is trained once, and MLflow has every number once."""
    sweep = cluster.start(HEAD, *COMMAND, f"tracking.uri={cluster.uri}")
    while sweep.poll() is None and not sent_from_other(cluster):
        time.sleep(0.05)
    cluster.kill(OTHER)
    output, _ = sweep.communicate(timeout=200.0)
    assert sweep.returncode == 0 and "is gone (NodeDiedError" in output, output
    folders = sorted((cluster.folder / "outputs" / "s").glob("*/*/"))
    states = [json.loads((folder / "status.json").read_text()) for folder in folders]
    assert [state["status"] for state in states] == ["DONE"] * 4
    assert any("resumes at" in (folder / "train.log").read_text() for folder in folders)
    assert all((folder / "bundle" / "best" / "policy.npz").exists() for folder in folders)
    script = Path(__file__).parent / "data" / "histories.py"
    told = cluster.start(HEAD, sys.executable, str(script), cluster.uri).communicate(timeout=60.0)[0]
    runs = json.loads(told.splitlines()[-1])
    assert sorted(run["status"] for run in runs) == ["FINISHED"] * 6, runs  # 2 lineages, 4 stages
    stages = [run for run in runs if run["parent"]]
    assert {run["id"] for run in stages} == {state["mlflow_run"] for state in states}
    for run in stages:
        assert run["evaluated"] == list(range(2048, 20481, 2048)), run
        assert run["parent"] in {other["id"] for other in runs}
