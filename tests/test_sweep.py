"""Sweeps through the real command line: shared jobs and isolated failures."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import Forked, dinorl_here
from omegaconf import OmegaConf

from dinorl.sweep.isolate import JobLost
from dinorl.sweep.launch import Launching
from dinorl.sweep.plan import Job
from dinorl.sweep.ray_workers import init_options
from dinorl.sweep.workers import End, HydraJobs, Processes
from dinorl.tracking import store
from dinorl.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("has_store")
TINY = ["experiment=debug", "curriculum.timesteps=256", "eval.every=256"]


def statuses(folder: Path) -> dict[str, dict]:
    """Return status.json of every run folder of a sweep, but for links to shared ones."""
    found = {}
    for path in sorted(folder.glob("*/*/status.json")):
        if not path.parent.is_symlink():
            found[f"{path.parent.parent.name}/{path.parent.name}"] = json.loads(path.read_text())
    return found


def runs(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list, list]:
    """Return the parent and the child MLflow runs below a working directory."""
    monkeypatch.chdir(cwd)
    client = store.client(store.embedded_uri())
    found = client.search_runs([client.get_experiment_by_name("dinorl").experiment_id])
    children = [r for r in found if "mlflow.parentRunId" in r.data.tags]
    return [r for r in found if r not in children], children


def test_lineages_share_common_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = Forked(tmp_path, *TINY, "species=trex", "2.ppo.learning_rate=1e-4,2e-4", "sweep.name=shared")
    output, _ = typed.communicate()
    assert typed.returncode == 0, output
    folder = tmp_path / "outputs" / "shared"
    found = statuses(folder)
    assert len(found) == 5 and {s["status"] for s in found.values()} == {"DONE"}
    one, two = (f"trex-ppo-s0-2.ppo.learning_rate-0.000{i}" for i in (1, 2))
    assert f"{one}/1-balance" in found and f"{two}/1-balance" not in found
    assert (folder / two / "1-balance").resolve() == folder / one / "1-balance"
    parents, children = runs(tmp_path, monkeypatch)
    assert len(parents) == 2 and len(children) == 5
    shared = next(r for r in children if r.data.tags["stage"] == "balance")
    assert shared.data.tags["lineages"] == f"{one},{two}"
    other = next(r for r in parents if r.data.tags["lineage"] == two)
    assert other.data.tags["shared.1-balance"] == shared.info.run_id
    rates = {
        r.data.tags["lineage"]: float(r.data.params["ppo.learning_rate"])
        for r in children
        if r.data.tags["stage"] == "locomotion"
    }
    assert rates == {one: 1e-4, two: 2e-4}
    for name in found:
        run = folder / name
        assert (run / ".hydra" / "config.yaml").exists() and (run / "bundle" / "best" / "meta.json").exists()
        assert list(csv.DictReader((run / "eval.csv").open()))
        diagnosis = f"dinorl diagnose {run}"  # it misses its gate
        assert f"what to try: {diagnosis}" in (run / "train.log").read_text()
        assert f"why:      {diagnosis}" in output
        # a stage's config, without the command's keys
        assert not {"1", "2", "3", "balance", "sweep"} & set(
            line.split(":")[0].strip("'") for line in (run / ".hydra" / "config.yaml").read_text().splitlines()
        )
    order = dinorl_here(tmp_path, *TINY, "species=trex", "2.ppo.learning_rate=2e-4,1e-4", "sweep.name=shared")
    assert order.returncode == 0 and "5 done before: 0 to train" in order.stdout, order.stdout + order.stderr
    assert statuses(folder) == found  # no retraining
    other = dinorl_here(
        tmp_path, *TINY, "species=trex", "2.ppo.learning_rate=1e-4,2e-4", "1.ppo.gamma=0.9", "sweep.name=shared"
    )
    assert other.returncode == 2 and "ppo.gamma was 0.99, is 0.9. Type another sweep.name" in other.stderr
    assert statuses(folder) == found and len(runs(tmp_path, monkeypatch)[1]) == 5


def test_job_failure_isolated_to_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file blocks the run folder, so that Hydra cannot start the job."""
    folder = tmp_path / "outputs" / "s"
    (folder / "trex-ppo-s1").mkdir(parents=True)
    (folder / "trex-ppo-s1" / "1-balance").write_text("blocks it")
    done = dinorl_here(tmp_path, *TINY, "species=trex", "seed=0,1", "stage=balance,locomotion", "sweep.name=s")
    assert done.returncode == 1, done.stdout + done.stderr
    found = statuses(folder)
    assert {name: s["status"] for name, s in found.items()} == {
        f"trex-ppo-s0/{stage}": "DONE" for stage in ("1-balance", "2-locomotion")
    }
    text = " ".join(done.stdout.split())
    assert "FAILED: trex-ppo-s1/1-balance" in text and "NOT RUN: trex-ppo-s1/2-locomotion" in text
    parents, children = runs(tmp_path, monkeypatch)
    assert {r.data.tags["lineage"]: r.info.status for r in parents} == {
        "trex-ppo-s0": "FINISHED", "trex-ppo-s1": "FAILED",
    }  # fmt: skip
    assert len(children) == 2


def test_training_error_is_recorded(tmp_path: Path) -> None:
    """A file blocks the bundles' folder."""
    run = tmp_path / "outputs" / "b" / "trex-ppo-s0" / "1-balance"
    run.mkdir(parents=True)
    (run / "bundle").write_text("blocks it")
    done = dinorl_here(tmp_path, *TINY, "species=trex", "stage=balance", "sweep.name=b")
    assert done.returncode == 1
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "FAILED" and status["error"]
    assert "Traceback" in (run / "train.log").read_text()
    assert "train.log" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_incompatible_warm_start_refused_early(tmp_path: Path) -> None:
    assert dinorl_here(tmp_path, *TINY, "species=trex", "stage=balance", "sweep.name=a").returncode == 0
    bundle = tmp_path / "outputs" / "a" / "trex-ppo-s0" / "1-balance" / "bundle" / "best"
    start = ("stage=locomotion", f"warm_start={bundle}", "sweep.name=b")
    other = dinorl_here(tmp_path, *TINY, "species=velociraptor", *start)
    assert other.returncode == 2 and "species=velociraptor in stage locomotion" in other.stderr
    (bundle / "policy.npz").write_bytes(b"damaged")
    damaged = dinorl_here(tmp_path, *TINY, "species=trex", *start)
    assert damaged.returncode == 2 and "policy.npz" in damaged.stderr and "Traceback" not in damaged.stderr
    assert not (tmp_path / "outputs" / "b").exists()


def test_budget_prunes_later_stages(tmp_path: Path) -> None:
    done = dinorl_here(tmp_path, *TINY, "species=trex", "curriculum.on_budget=stop", "sweep.name=p")
    found = statuses(tmp_path / "outputs" / "p")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [s["status"] for s in found.values()] == ["DONE", "PRUNED", "PRUNED"]


def test_listener_prunes_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracker, "evaluated", lambda self, step, metrics: self._header["tags"]["seed"] == "1")
    command = (*TINY, "species=trex", "stage=balance,locomotion", "seed=0,1", "sweep.name=l", "sweep.isolate=false",
               "curriculum.timesteps=512", "eval.every=64")  # fmt: skip
    done = dinorl_here(tmp_path, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: state["status"] for name, state in statuses(tmp_path / "outputs" / "l").items()}
    assert found == {
        "trex-ppo-s0/1-balance": "DONE", "trex-ppo-s0/2-locomotion": "DONE",
        "trex-ppo-s1/1-balance": "PRUNED", "trex-ppo-s1/2-locomotion": "PRUNED",
    }  # fmt: skip
    plan = dinorl_here(tmp_path, *command, "plan_only=true")
    assert "3 done before" in plan.stdout, plan.stdout  # stopped is final, too


def test_foreign_run_refused_and_kept(tmp_path: Path) -> None:
    """Nothing is trained through the link of a shared stage; resume=false accepts a new folder."""
    first = dinorl_here(tmp_path, *TINY, "species=trex", "stage=balance", "resume=false", "sweep.name=s")
    assert first.returncode == 0, first.stdout + first.stderr
    home = tmp_path / "outputs" / "s" / "trex-ppo-s0"
    before = sorted(path.name for path in (home / "1-balance" / "bundle").iterdir())
    (home.parent / "trex-ppo-s1").mkdir()
    (home.parent / "trex-ppo-s1" / "1-balance").symlink_to("../trex-ppo-s0/1-balance")
    other = dinorl_here(tmp_path, *TINY, "species=trex", "stage=balance", "seed=1", "sweep.name=s")
    assert (
        other.returncode == 2 and "trex-ppo-s1/1-balance: holds a run of another plan: seed was 0, is 1" in other.stderr
    )
    assert sorted(path.name for path in (home / "1-balance" / "bundle").iterdir()) == before


def test_joblib_with_one_job_works(tmp_path: Path) -> None:
    typed = ("species=trex", "stage=balance", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    done = dinorl_here(tmp_path, *TINY, *typed, "sweep.name=j")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {state["status"] for state in statuses(tmp_path / "outputs" / "j").values()} == {"DONE"}


def test_joblib_option_without_effect_refused(tmp_path: Path) -> None:
    done = dinorl_here(tmp_path, *TINY, "species=trex", "hydra/launcher=joblib", "hydra.launcher.backend=threading")
    assert done.returncode == 2 and "hydra.launcher.backend=threading: has no effect" in done.stderr, done.stderr
    assert "hydra.launcher.n_jobs" in done.stderr


@pytest.mark.parametrize("address, memory", [("auto", False), ("local", True), (None, True)])
def test_joined_ray_keeps_its_memory(address: str | None, memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray refuses to join a cluster with a memory of one's own."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    launcher = OmegaConf.create({"ray": {"init": {"address": address}, "remote": {}}})
    assert ("object_store_memory" in init_options(launcher)) is memory


def test_cluster_without_way_home_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded store nothing would come back from the other machine."""

    class Elsewhere:
        def machines_without(self, folder: Path) -> list[str]:
            assert (folder / "plan.json").exists()
            return ["other"]

        def close(self) -> None:
            pass

    monkeypatch.setattr(Launching, "_make_workers", lambda self: Elsewhere())
    done = dinorl_here(tmp_path, *TINY, "species=trex", "stage=balance", "sweep.name=s")
    assert done.returncode == 2 and "Give tracking.uri=http" in " ".join(done.stderr.split()), done.stderr
    assert not (tmp_path / "outputs" / "s").exists()


class Scripted:
    """Workers that end jobs in an order that the test chooses."""

    def __init__(self, order: list[str]) -> None:
        self.order, self.waiting, self.begun = order, [], []

    def submit(self, job: Job, overrides: Sequence[str]) -> None:
        self.waiting.append(job)
        self.begun.append(job.folder)

    def wait(self) -> list[End]:
        ended = next(job for name in self.order for job in self.waiting if job.folder == name)
        self.order.remove(ended.folder)
        self.waiting.remove(ended)
        return [(ended, {"status": "DONE", "gate": "passed", "timesteps": 1, "seconds": 1.0})]

    def left(self) -> int:
        return len(self.waiting)

    def close(self) -> None:
        pass


def test_job_starts_after_own_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow lineage holds up no other."""
    fast = [f"trex-ppo-s1/{stage}" for stage in ("1-balance", "2-locomotion", "3-behavior")]
    slow = [name.replace("s1", "s0") for name in fast]
    workers = Scripted([*fast, *slow])
    monkeypatch.setattr(Launching, "_make_workers", lambda self: workers)
    done = dinorl_here(tmp_path, *TINY, "species=trex", "seed=0,1", "sweep.name=s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert workers.begun == [slow[0], *fast, *slow[1:]]


def test_killed_job_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = HydraJobs(None, None, None)  # type: ignore[arg-type]
    jobs.composed = lambda overrides: overrides  # type: ignore[assignment,method-assign]
    workers = Processes(jobs, 2)
    monkeypatch.setattr("dinorl.sweep.workers.run_hydra_job", _end)
    for name in ("killed", "fine"):
        workers.submit(name, name)  # type: ignore[arg-type]
    ended = dict(workers.wait() + (workers.wait() if workers.left() else []))
    assert isinstance(ended["killed"], JobLost) and ended["fine"] == "fine"  # type: ignore[index]


def _end(word: str) -> str:
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    return word


def test_submitit_runs_jobs_here(tmp_path: Path) -> None:
    typed = ("species=trex", "stage=balance", "hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1")
    done = dinorl_here(tmp_path, *TINY, *typed, "sim.threads=0", "sweep.name=l")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "outputs" / "l"
    assert [state["status"] for state in statuses(folder).values()] == ["DONE"]
    assert OmegaConf.load(folder / "trex-ppo-s0" / "1-balance" / ".hydra" / "config.yaml").sim.threads == 1
