"""One real stage: startup time and the shares of evaluation and tracking."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import dinorl
from dinorl.config import Config
from dinorl.tracking.store import client

# Logged metric of each report entry.
METRICS = {
    "startup_s": "time/since_command_s",
    "evaluation_share": "time/evaluation_share",
    "tracking_share": "time/tracking_share",
}


def run_command(arguments: list[str], folder: Path) -> None:
    """Run ``dinorl`` in a folder.

    Raises:
        ChildProcessError: it failed; the message has the end of its output.
    """
    root = str(Path(dinorl.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "dinorl", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise ChildProcessError(f"dinorl {' '.join(arguments)} failed:\n{done.stdout[-2000:]}")


def stage_metrics(cfg: Config, timesteps: int) -> dict[str, float]:
    """Train one stage from the command line and return :data:`METRICS`.

    Args:
        cfg: gives species, stage and algorithm; the rest are defaults.
        timesteps: the stage's budget.

    Raises:
        ChildProcessError: the stage failed.
    """
    stage = [f"species={cfg.species.name}", f"stage={cfg.stage.name}", f"algo={cfg.algo.name}"]
    rollout = cfg.ppo.n_steps * cfg.sim.n_envs
    with tempfile.TemporaryDirectory() as folder:
        # creates the store, warms caches
        run_command(
            [*stage, f"curriculum.timesteps={rollout}", "eval.episodes=1", "eval.video_seconds=0"], Path(folder)
        )
        run_command([*stage, f"curriculum.timesteps={timesteps}"], Path(folder))
        return _logged(f"sqlite:///{folder}/outputs/mlflow.db", cfg.stage.name)


def _logged(uri: str, stage: str) -> dict[str, float]:
    """Return the metrics of the newest run of a stage."""
    mlflow = client(uri)
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    runs = mlflow.search_runs(experiments, filter_string=f"tags.stage = '{stage}'", order_by=["start_time DESC"])
    metrics = runs[0].data.metrics
    if missing := [key for key in METRICS.values() if key not in metrics]:
        found = sorted(key for key in metrics if key.startswith("time/"))
        raise RuntimeError(f"the stage logged no {', '.join(missing)}; found {', '.join(found)}")
    return {name: metrics[key] for name, key in METRICS.items()}
