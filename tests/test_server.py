"""A real MLflow server that starts late, is killed and restarts: training continues, each metric arrives once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import dinorl_here, mlflow_server, word

from dinorl.config import compose
from dinorl.tracking.store import client
from dinorl.tracking.tracker import Tracker

TINY = ("experiment=debug", "species=trex", "curriculum.timesteps=256", "eval.every=256")


class Server:
    """An MLflow server on a free port, with its store in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        folder.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command, env = mlflow_server(self.folder / "server.db", self.folder / "artifacts", "127.0.0.1", self.port)
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env=os.environ | env,
        )  # fmt: skip
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the server did not start in a minute")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(made_store: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server")
    shutil.copy(made_store, server.folder / "server.db")
    yield server
    server.kill()


def test_unreachable_server_stops_before_training(server: Server, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    done = dinorl_here(tmp_path / "here", *TINY, f"tracking.uri={server.uri}")
    assert done.returncode != 0 and "Traceback" not in done.stdout + done.stderr
    assert server.uri in done.stderr and "tracking.required=false" in done.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_tracking_survives_server_outage(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    arguments = (*TINY, f"tracking.uri={server.uri}", "tracking.required=false", "sweep.name=late")
    done = dinorl_here(here, *arguments, "stage=balance,locomotion")
    assert done.returncode == 0, done.stdout + done.stderr
    stage = here / "outputs" / "late" / "trex-ppo-s0" / "1-balance"
    assert json.loads((stage / "status.json").read_text())["status"] == "DONE"
    assert "type dinorl send" in " ".join(done.stdout.split())

    server.start()
    monkeypatch.chdir(here)
    assert word("send", "outputs") == 0
    mlflow = client(server.uri)
    experiment = mlflow.get_experiment_by_name("dinorl")
    assert experiment is not None
    runs = {run.info.run_name: run for run in mlflow.search_runs([experiment.experiment_id])}
    assert set(runs) == {"trex-ppo-s0", "trex-ppo-s0/1-balance", "trex-ppo-s0/2-locomotion"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for name in ("trex-ppo-s0/1-balance", "trex-ppo-s0/2-locomotion"):
        assert runs[name].data.tags["mlflow.parentRunId"] == runs["trex-ppo-s0"].info.run_id
        assert {"eval.csv", "bundle"} <= {file.path for file in mlflow.list_artifacts(runs[name].info.run_id)}

    cfg = compose(["species=trex", f"tracking.uri={server.uri}", "tracking.log_every=0.05"])
    (tmp_path / "run").mkdir()
    tracker = Tracker(cfg, tmp_path / "run")
    tracker.start()
    for step in range(300):
        if step == 100:
            while tracker.run_id is None:  # killed in between
                time.sleep(0.05)
            server.kill()
        if step == 200:
            server.start()
        tracker.log_metrics({"reward/alive": float(step)}, step)
        time.sleep(0.002)
    tracker.close("DONE", "passed")
    assert tracker.run_id is not None
    history = mlflow.get_metric_history(tracker.run_id, "reward/alive")
    assert [(m.step, m.value) for m in history] == [(step, float(step)) for step in range(300)]
    assert mlflow.get_run(tracker.run_id).info.status == "FINISHED"
