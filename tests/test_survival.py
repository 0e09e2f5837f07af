"""Processes are killed for real: the same command resumes, and MLflow has every number once."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Forked
from omegaconf import OmegaConf

from dinorl.tracking import store

pytestmark = pytest.mark.usefixtures("has_store")
COMMAND = (
    "species=trex", "stage=balance", "sweep.name=s", "sim.n_envs=64", "ppo.n_steps=4", "ppo.batch_size=64",
    "ppo.n_epochs=1", "curriculum.timesteps=10000", "eval.every=1250", "eval.episodes=2", "env.max_episode_steps=20",
    "eval.video_seconds=0", "tracking.models=false", "tracking.log_every=0.2", "sim.threads=1",
    "curriculum.min_avg_reward=1e9",
)  # fmt: skip
ENDING = str(Path(__file__).parent / "data")  # the folder of ending.py
RUN = Path("outputs/s/trex-ppo-s0/1-balance")


def start(cwd: Path, *more: str) -> subprocess.Popen[str]:
    """Start the command as people do; see :func:`begin`."""
    return subprocess.Popen(
        [sys.executable, "-m", "dinorl", *COMMAND, *more],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([ENDING, os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def begin(cwd: Path, *more: str) -> Forked:
    """Start the command where its start and the end of its server are not the question."""
    return Forked(cwd, *COMMAND, *more)


def wait_for_bundles(running: subprocess.Popen[str] | Forked, run: Path, steps: int) -> None:
    end = time.monotonic() + 240.0
    while not any(path.name.isdigit() and int(path.name) >= steps for path in run.glob("bundle/*")):
        if running.poll() is not None:
            raise AssertionError(f"ended with no bundle beyond {steps} steps: {running.communicate()[0]}")
        assert time.monotonic() < end, f"no bundle beyond {steps} steps"
        time.sleep(0.01)


def test_resume_after_sigkill_and_sigterm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    killed = start(tmp_path)
    wait_for_bundles(killed, RUN, 1250)
    job = json.loads((RUN / "status.json").read_text())["pid"]
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert job != killed.pid
    with pytest.raises(ProcessLookupError):  # the job ends with its command
        for _ in range(500):
            os.kill(job, 0)
            time.sleep(0.01)

    terminated = begin(tmp_path)
    wait_for_bundles(terminated, RUN, 3750)
    terminated.send_signal(signal.SIGTERM)
    output, _ = terminated.communicate(timeout=60.0)
    assert terminated.returncode == 130 and "sweep.name=s" in output and "Traceback" not in output
    status = json.loads((RUN / "status.json").read_text())
    assert status["status"] == "INTERRUPTED" and "SIGTERM" in status["error"]

    mlflow = store.client(store.embedded_uri())
    experiments = [e.experiment_id for e in mlflow.search_experiments()]
    assert {run.info.status for run in mlflow.search_runs(experiments)} == {"KILLED"}

    output = begin(tmp_path).communicate(timeout=120.0)[0]
    assert "resumes at" in output
    assert json.loads((RUN / "status.json").read_text())["status"] == "DONE"
    child, parent = sorted(mlflow.search_runs(experiments), key=lambda r: "mlflow.parentRunId" not in r.data.tags)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.status == parent.info.status == "FINISHED"
    rows = [row for row in csv.DictReader((RUN / "eval.csv").open()) if row["policy"] == "policy"]
    evaluated = [int(row["timesteps"]) for row in rows]
    assert len(evaluated) == len(set(evaluated)) == 8
    for key in ("eval/return_mean", "gate/consecutive"):
        assert [m.step for m in mlflow.get_metric_history(child.info.run_id, key)] == evaluated
    updates = [m.step for m in mlflow.get_metric_history(child.info.run_id, "train/loss")]
    assert updates == list(range(512, 10241, 256)), "an update's metrics are missing, or there twice"
    assert sorted(path.name for path in Path("outputs/s").iterdir()) == ["plan.json", "trex-ppo-s0"]
    assert sorted(os.listdir("outputs/s/trex-ppo-s0")) == [
        "1-balance",
        "stages.json",
        "tracking.jsonl",
        "tracking.sent",
    ]


def test_second_sigint_exits_immediately(tmp_path: Path) -> None:
    run = tmp_path / RUN
    stopped = begin(tmp_path)
    wait_for_bundles(stopped, run, 1250)
    stopped.send_signal(signal.SIGINT)
    time.sleep(0.05)
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate(timeout=60.0)
    assert stopped.returncode == 130 and "dinorl: interrupted" in output and "Traceback" not in output
    assert json.loads((run / "status.json").read_text())["status"] == "INTERRUPTED"


def test_late_sigterm_keeps_finished_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal while the film is made; the next stage must not begin."""
    from dinorl.config import compose, to_container
    from dinorl.sweep import job
    from dinorl.training import resume, stage

    def killed_at_end(*_: object) -> stage.StageResult:
        os.kill(os.getpid(), signal.SIGTERM)
        return stage.StageResult("passed", 1, 1.0, tmp_path)

    def finished(folder: Path) -> None:
        statuses.append(json.loads((folder / "status.json").read_text())["status"])

    statuses: list[str] = []
    runtime = {"output_dir": str(tmp_path), "choices": {"recipe": "default"}}
    monkeypatch.setattr(stage, "run_stage", killed_at_end)
    monkeypatch.setattr(resume, "finish", finished)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job.HydraConfig, "get", lambda: OmegaConf.create({"runtime": runtime}))
    with pytest.raises(KeyboardInterrupt):
        job.run(OmegaConf.create(to_container(compose(["species=trex", "stage=balance"]))))
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "DONE"
    assert statuses == ["DONE"], "the resume state was deleted before the status was DONE"


def test_run_folder_lock_is_exclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dinorl.files.run_folder import locked
    from dinorl.sweep import job

    monkeypatch.setattr(job, "PATIENCE", 0.1)
    monkeypatch.setattr(job.HydraConfig, "get", lambda: OmegaConf.create({"runtime": {"output_dir": str(tmp_path)}}))
    with locked(tmp_path), pytest.raises(RuntimeError, match="still trains in .*; end it, or wait for it"):
        job.run(OmegaConf.create({}))
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"], "something was written"


def test_ray_worker_replaced_failures_isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outputs" / "s" / "trex-ppo-s2").mkdir(parents=True)
    (tmp_path / "outputs" / "s" / "trex-ppo-s2" / "1-balance").write_text("blocks the run folder")
    sweep = begin(tmp_path, "seed=0,1,2", "hydra/launcher=ray", "curriculum.timesteps=5000")
    folders = [tmp_path / "outputs" / "s" / f"trex-ppo-s{seed}" / "1-balance" for seed in (0, 1)]
    wait_for_bundles(sweep, folders[1], 1250)
    worker = json.loads((folders[1] / "status.json").read_text())["pid"]
    assert worker != sweep.pid and os.getpriority(os.PRIO_PROCESS, worker) == os.getpriority(os.PRIO_PROCESS, 0)
    os.kill(worker, signal.SIGKILL)
    output, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 1 and "FAILED: trex-ppo-s2/1-balance" in " ".join(output.split()), output
    monkeypatch.chdir(tmp_path)
    for folder in folders:
        status = json.loads((folder / "status.json").read_text())
        assert status["status"] == "DONE"
        history = store.client(store.embedded_uri()).get_metric_history(status["mlflow_run"], "eval/return_mean")
        steps = [point.step for point in history]
        assert len(steps) >= 4 and steps == sorted(set(steps))  # all, once
    assert "resumes at" in (folders[1] / "train.log").read_text()


def test_job_exhausting_retries_is_isolated(tmp_path: Path) -> None:
    sweep = begin(tmp_path, "seed=0,1", "curriculum.timesteps=5000")
    good, bad = (tmp_path / "outputs" / "s" / f"trex-ppo-s{seed}" / "1-balance" for seed in (0, 1))
    killed: list[int] = []
    for steps in (1250, 2500):  # sweep.retries=1: two attempts
        wait_for_bundles(sweep, bad, steps)
        killed.append(json.loads((bad / "status.json").read_text())["pid"])
        os.kill(killed[-1], signal.SIGKILL)
    output, _ = sweep.communicate(timeout=60.0)
    assert len({sweep.pid, *killed}) == 3 and sweep.returncode == 1 and "Traceback" not in output, output
    assert json.loads((good / "status.json").read_text())["status"] == "DONE"
    status = json.loads((bad / "status.json").read_text())
    assert status["status"] == "FAILED" and "SIGKILL" in status["error"]
    words = " ".join(output.split())
    assert "FAILED: trex-ppo-s1/1-balance" in words and "ended by SIGKILL" in words
    assert str(bad / "train.log") in output.replace("\n", "")
    assert "resumes at" in (bad / "train.log").read_text()


SIDE_BY_SIDE = ("seed=0,1", "curriculum.timesteps=5000", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A memory control group of 300 MB; above, the kernel kills."""
    group = Path("/sys/fs/cgroup/memory/dinorl-test")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(300 << 20))
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    yield group
    group.rmdir()


def test_oom_killed_job_resumes(tmp_path: Path, little_memory: Path) -> None:
    once = ("+hydra.callbacks.e._target_=ending.Ending", f"+hydra.callbacks.e.cgroup={little_memory}")
    output, _ = (sweep := start(tmp_path, *SIDE_BY_SIDE, *once)).communicate(timeout=200)
    assert sweep.returncode == 0 and "SIGKILL" in output, output
    for seed in (0, 1):
        run = tmp_path / "outputs" / "s" / f"trex-ppo-s{seed}" / "1-balance"
        assert json.loads((run / "status.json").read_text())["status"] == "DONE"
    assert (run / "ended").exists() and "resumes at" in (run / "train.log").read_text()


def test_parallel_jobs_checkpoint_on_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launchers alone would kill their workers. A hanging MLflow server does not block."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"tracking.uri=http://127.0.0.1:{silent.getsockname()[1]}"
        sweep = begin(tmp_path, *SIDE_BY_SIDE, "curriculum.timesteps=1000000", uri, "tracking.required=false")
        runs = [tmp_path / "outputs" / "s" / f"trex-ppo-s{seed}" / "1-balance" for seed in (0, 1)]
        for run in runs:
            wait_for_bundles(sweep, run, 1250)
        sweep.send_signal(signal.SIGTERM)
        output, _ = sweep.communicate(timeout=15.0)
    assert sweep.returncode == 130 and "sweep.name=s" in output and "Traceback" not in output
    for run in runs:
        status = json.loads((run / "status.json").read_text())
        assert status["status"] == "INTERRUPTED"
        newest = max((run / "bundle").glob("[0-9]*"), key=lambda path: int(path.name))
        assert f"SIGTERM at {int(newest.name):,} steps" in status["error"], "no bundle was written on the interrupt"
        assert '"end": "KILLED"' in (run / "tracking.jsonl").read_text()
