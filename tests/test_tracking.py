"""Every number reaches MLflow once, whatever happens to MLflow or the run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest.mock import Mock

import pytest
from commands import word

from dinorl.config import Config, ConfigError, compose, secrets
from dinorl.sweep import isolate
from dinorl.tracking import runs, store
from dinorl.tracking.describe import acting
from dinorl.tracking.lineage import close_runs, open_lineages
from dinorl.tracking.spool import Spool
from dinorl.tracking.tracker import Tracker


@pytest.fixture
def cfg(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config in an empty working directory, with the embedded store made."""
    monkeypatch.chdir(tmp_path)
    cfg = compose(["species=trex", "stage=behavior", "algo=sac", "tracking.lineage=trex-sac-s0", "tracking.sweep=first",
                   "tracking.log_every=0.05"])  # fmt: skip
    store.create_store(cfg.tracking)
    return cfg


@pytest.fixture
def forks() -> ForkServerContext:
    """Makes processes that have imported MLflow, as a command's jobs."""
    isolate.prepare()
    return multiprocessing.get_context("forkserver")


def history(run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in store.client(store.embedded_uri()).get_metric_history(run_id, key)]


def track(cfg: Config, folder: Path, count: int) -> str | None:
    folder.mkdir(parents=True, exist_ok=True)
    tracker = Tracker(cfg, folder)
    tracker.start()
    for step in range(count):
        tracker.log_metrics({"reward/alive": step / 2, "eval/return_mean": float("nan")}, step)
    tracker.close("DONE", "passed")
    return tracker.run_id


def test_mlflow_run_is_complete(cfg: Config, tmp_path: Path) -> None:
    lineage = tmp_path / "trex-sac-s0"
    open_lineages(cfg.tracking, {lineage: {"lineage": "trex-sac-s0"}})
    cfg.tracking.parent = str(lineage)
    parent = Spool(lineage).run_id
    assert parent is not None
    (tmp_path / "eval.csv").write_text("a,b\n")
    folder = tmp_path / "run"
    folder.mkdir()
    tracker = Tracker(cfg, folder)
    tracker.start()
    tracker.log_metrics({"rollout/ep_rew_mean": 3.5}, 4096)
    tracker.log_artifact(tmp_path / "eval.csv")
    tracker.close("DONE", "passed")
    assert tracker.run_id is not None
    run = store.client(store.embedded_uri()).get_run(tracker.run_id)
    for key, value in {
        "species": "trex", "stage": "behavior", "stage_index": "3", "algo": "sac", "seed": "0",
        "lineage": "trex-sac-s0", "sweep": "first", "status": "DONE", "gate": "passed", "mlflow.parentRunId": parent,
    }.items():  # fmt: skip
        assert run.data.tags[key] == value
    assert "git_sha" in run.data.tags
    assert len(run.data.params) > 100 and set(run.data.params) == set(acting(cfg))
    assert run.data.params["sac.gamma"] == str(cfg.sac.gamma)
    assert history(tracker.run_id, "rollout/ep_rew_mean") == [(4096, 3.5)]
    assert [f.path for f in store.client(store.embedded_uri()).list_artifacts(tracker.run_id)] == ["eval.csv"]
    assert run.info.status == "FINISHED"
    assert runs.run_folder(tracker.run_id) == folder


def test_metrics_arrive_in_order_once(cfg: Config, tmp_path: Path) -> None:
    run_id = track(cfg, tmp_path / "run", 2500)
    assert run_id is not None
    assert history(run_id, "reward/alive") == [(step, step / 2) for step in range(2500)]
    assert history(run_id, "eval/return_mean") == []


def test_spool_send_is_idempotent(cfg: Config, tmp_path: Path) -> None:
    run_id = track(cfg, tmp_path / "run", 10)
    spool = Spool(tmp_path / "run")
    assert run_id is not None and not spool.waiting()
    with (tmp_path / "run" / "tracking.jsonl").open("rb") as file:
        spool.sent = len(file.readline())  # as if the server's answer was lost
    spool.send()
    assert history(run_id, "reward/alive") == [(step, step / 2) for step in range(10)]


def test_unsent_metrics_sent_later(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(self: Spool) -> None:
        raise ConnectionError("server is away")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "send", away)
        assert track(cfg, tmp_path / "run", 20) is None
    said = " ".join(capsys.readouterr().out.split())
    assert "MLflow cannot be reached (ConnectionError)" in said
    assert f"dinorl send {tmp_path / 'run'}" in said
    assert word("send", tmp_path) == 0
    run_id = Spool(tmp_path / "run").run_id
    assert run_id is not None
    assert history(run_id, "reward/alive") == [(step, step / 2) for step in range(20)]
    assert store.client(store.embedded_uri()).get_run(run_id).info.status == "FINISHED"


def test_spool_from_other_job_ignored(cfg: Config, tmp_path: Path) -> None:
    """The new job's numbers were taken for sent already."""
    cfg.tracking.job = "one"
    first = track(cfg, tmp_path / "run", 5)
    cfg.tracking.job = "other"
    second = track(cfg, tmp_path / "run", 3)
    assert first is not None and second not in (None, first)
    assert history(str(second), "reward/alive") == [(step, step / 2) for step in range(3)]


def test_new_store_receives_full_history(cfg: Config, tmp_path: Path) -> None:
    track(cfg, tmp_path / "run", 5)
    uri = f"sqlite:///{tmp_path}/other/mlflow.db"
    cfg.tracking.uri = uri
    store.create_store(cfg.tracking)
    run_id = track(cfg, tmp_path / "run", 7)
    assert run_id is not None
    arrived = store.client(uri).get_metric_history(run_id, "reward/alive")
    assert [point.step for point in arrived] == list(range(7))


def test_deleted_experiment_is_named(cfg: Config, tmp_path: Path) -> None:
    mlflow = store.client(store.embedded_uri())
    mlflow.delete_experiment(mlflow.get_experiment_by_name("dinorl").experiment_id)
    with pytest.raises(ConfigError, match="experiment dinorl was deleted.*experiments restore"):
        store.create_store(cfg.tracking)


def test_deleted_run_begins_anew(cfg: Config, tmp_path: Path) -> None:
    first = track(cfg, tmp_path / "run", 5)
    assert first is not None
    store.client(store.embedded_uri()).delete_run(first)
    second = track(cfg, tmp_path / "run", 7)
    assert second not in (None, first)
    assert [step for step, _ in history(str(second), "reward/alive")] == list(range(7))


def test_failing_artifact_holds_up_nothing(cfg: Config, tmp_path: Path) -> None:
    blocked = tmp_path / "outputs" / store.ARTIFACTS
    blocked.write_text("no folder")
    (tmp_path / "eval.csv").write_text("a,b\n")
    (tmp_path / "run").mkdir()
    tracker = Tracker(cfg, tmp_path / "run")
    tracker.start()
    tracker.log_artifact(tmp_path / "eval.csv")
    tracker.log_metrics({"reward/alive": 1.0}, 3)
    tracker.close("DONE", "passed")
    mlflow, spool = store.client(store.embedded_uri()), Spool(tmp_path / "run")
    run_id = str(spool.run_id)
    assert history(run_id, "reward/alive") == [(3, 1.0)] and mlflow.get_run(run_id).info.status == "FINISHED"
    assert spool.waiting(), "the artifact counts as sent"
    blocked.unlink()
    assert word("send", tmp_path) == 0
    assert [file.path for file in mlflow.list_artifacts(run_id)] == ["eval.csv"]
    assert not Spool(tmp_path / "run").waiting()


def test_moved_store_keeps_runs(cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old runs have their artifacts in the new place, and nothing is written to the old."""
    folder = tmp_path / "outputs" / "first" / "run"
    folder.mkdir(parents=True)
    (folder / "eval.csv").write_text("a,b\n")
    tracker = Tracker(cfg, folder)
    tracker.start()
    tracker.log_artifact(folder / "eval.csv")
    tracker.close("DONE", "passed")
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "outputs").rename(here / "outputs")
    (here / "outputs" / "first").rename(here / "outputs" / "renamed")
    monkeypatch.chdir(here)
    store.create_store(cfg.tracking)
    run_id = str(tracker.run_id)
    mlflow = store.client(store.embedded_uri())
    assert str(here) in mlflow.get_run(run_id).info.artifact_uri
    assert [file.path for file in mlflow.list_artifacts(run_id)] == ["eval.csv"]
    assert runs.run_folder(run_id) == Path("outputs/renamed/run")
    resumed = Spool(Path("outputs/renamed/run"))
    resumed.append([{"metrics": {"reward/alive": 1.0}, "step": 9, "time": 0}])
    resumed.send()
    assert resumed.run_id == run_id and history(run_id, "reward/alive") == [(9, 1.0)]
    assert not (tmp_path / "outputs").exists()


def test_password_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(secrets.VARIABLE, raising=False)
    uri = "postgresql://me:dont-tell@host/runs?sslpassword=dont-tell"
    settings = compose(["species=trex", f"tracking.uri='{uri}'"]).tracking
    assert settings.uri == "postgresql://me:***@host/runs?sslpassword=***"
    assert secrets.whole(settings.uri) == uri
    monkeypatch.delenv(secrets.VARIABLE)
    with pytest.raises(ConfigError, match="Set the environment variable MLFLOW_TRACKING_URI"):
        secrets.whole(settings.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert secrets.whole(settings.uri) == uri


def test_orphaned_run_flushed_and_closed(cfg: Config, tmp_path: Path, forks: ForkServerContext) -> None:
    folder = tmp_path / "run"
    job = forks.Process(target=_exit_within_a_line, args=(folder,))
    job.start()
    job.join()
    assert job.exitcode == 9
    (folder / "tracking.sent").write_text("")
    assert close_runs({folder: ("FAILED", {"status": "FAILED"}), tmp_path / "nothing": ("FAILED", {})}) == []
    run_id = Spool(folder).run_id
    assert run_id is not None and history(run_id, "reward/alive") == [(7, 1.0)]
    run = store.client(store.embedded_uri()).get_run(run_id)
    assert run.info.status == "FAILED" and run.data.tags["status"] == "FAILED"


def test_concurrent_sends_are_safe(cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage sends while a user types ``dinorl send``."""
    from concurrent.futures import ThreadPoolExecutor

    run_id = track(cfg, tmp_path / "run", 50)
    (tmp_path / "run" / "tracking.sent").unlink()
    whole = os.replace

    def slow(source: Path, target: Path) -> None:
        time.sleep(0.2)
        whole(source, target)

    monkeypatch.setattr("dinorl.files.run_folder.os.replace", slow)
    spools = [Spool(tmp_path / "run") for _ in range(2)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(Spool.send, spools))
    assert [spool.run_id for spool in spools] == [run_id] * 2 and not any(spool.waiting() for spool in spools)


def test_slow_store_never_blocks_training(cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    released = threading.Event()
    whole = Spool.send

    def slow(self: Spool) -> None:
        released.wait()
        whole(self)

    monkeypatch.setattr(Spool, "send", slow)
    (tmp_path / "run").mkdir()
    tracker = Tracker(cfg, tmp_path / "run")
    tracker.start()
    for step in range(5000):  # does not wait for the send
        tracker.log_metrics({"reward/alive": 1.0}, step)
    released.set()
    tracker.close("DONE", "passed")
    assert tracker.run_id is not None and len(history(tracker.run_id, "reward/alive")) == 5000


def test_interrupted_store_creation_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: ForkServerContext
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = compose(["species=trex", "stage=balance"]).tracking
    making = forks.Process(target=store.create_store, args=(settings,))
    making.start()
    half = tmp_path / "outputs" / ".mlflow.db-building"
    while making.is_alive() and not (half.exists() and half.stat().st_size > 50_000):
        time.sleep(0.001)
    making.kill()
    making.join()
    assert half.exists() and not (tmp_path / "outputs" / store.DATABASE).exists()
    store.create_store(settings)
    assert (tmp_path / "outputs" / store.DATABASE).exists() and not list(half.parent.glob(f"{half.name}*"))


def test_concurrent_store_creation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: ForkServerContext
) -> None:
    """Without a common parent, each process finds no store and makes it."""
    monkeypatch.chdir(tmp_path)
    jobs = [forks.Process(target=_command, args=(tmp_path / f"run{i}",)) for i in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    for i in range(4):
        run_id = Spool(tmp_path / f"run{i}").run_id
        assert run_id is not None and len(history(run_id, "reward/alive")) == 50


def test_finished_runs_beyond_one_page(cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow answers with 1,000 runs at most."""
    run_id, count = track(cfg, tmp_path / "run", 1), 2 * runs.PAGE + 1
    with contextlib.closing(sqlite3.connect(store.OUTPUTS / store.DATABASE)) as database, database:
        for table, key in (("runs", "run_uuid"), ("tags", "run_uuid")):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            copied = ", ".join(
                {key: "? || substr(run_uuid, 6)", "start_time": "start_time - ?"}.get(c, c) for c in columns
            )
            for i in range(1, count):
                values = (f"n{i:04}", i)[: copied.count("?")]
                database.execute(f"INSERT INTO {table} SELECT {copied} FROM {table} WHERE {key} = ?", (*values, run_id))
    tables = runs.finished_runs("first")
    monkeypatch.setattr(runs, "read_rows", Mock(side_effect=sqlite3.OperationalError))
    found = [run.run_id for run in runs.finished_runs("first")]
    assert [run.run_id for run in tables] == found
    assert len(set(found)) == len(found) == count
    assert found[0] == run_id, "the newest comes first"
    assert runs.finished_runs("another") == []


def _exit_within_a_line(folder: Path) -> None:
    os.chdir(folder.parent)
    folder.mkdir()
    tracker = Tracker(compose(["species=trex"]), folder)
    tracker.start()
    tracker.log_metrics({"reward/alive": 1.0}, 7)
    tracker.flush()
    with (folder / "tracking.jsonl").open("a") as file:
        file.write('{"metrics": {"reward/al')
    os._exit(9)


def _command(folder: Path) -> None:
    os.chdir(folder.parent)
    cfg = compose(["species=trex", "tracking.log_every=0.05"])
    store.create_store(cfg.tracking)
    track(cfg, folder, 50)
