"""What people see in MLflow: parents, stages, models, and the page that ``dinorl ui`` opens."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from commands import dinorl_here, word
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.player import load_player
from dinorl.config import TrackingConfig, compose, flatten
from dinorl.files.run_folder import RunFolder
from dinorl.sweep import parents
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.lineages import LineageRuns
from dinorl.sweep.plan import Job, Lineage, Plan
from dinorl.tracking import store, system
from dinorl.tracking.runs import finished_runs
from dinorl.tracking.spool import Spool
from dinorl.tracking.tracker import Tracker

TYPED = ("experiment=debug", "species=trex", "stage=balance,locomotion", "curriculum.timesteps=256", "eval.every=256",
         "tracking.models=true", "2.ppo.gamma=0.98", "sweep.name=s")  # fmt: skip


class Place:
    """A working directory with a sweep of one curriculum of two stages."""

    def __init__(self, path: Path) -> None:
        self.path, self.home = path, path / "outputs" / "s" / "trex-ppo-s0"
        self.uri = f"{store.SQLITE}{path}/outputs/{store.DATABASE}"
        self.client = store.client(self.uri)

    def runs(self) -> tuple[Run, dict[str, Run]]:
        """Return the parent's run, and those of stages by name."""
        experiment = self.client.get_experiment_by_name("dinorl")
        found = self.client.search_runs([experiment.experiment_id], "tags.sweep = 's'")
        children = {run.data.tags["stage"]: run for run in found if "stage" in run.data.tags}
        parent = next(run for run in found if "stage" not in run.data.tags)
        return self.client.get_run(parent.info.run_id), children

    def history(self, run: Run, key: str) -> list[tuple[int, float]]:
        return [(one.step, one.value) for one in self.client.get_metric_history(run.info.run_id, key)]

    def artifacts(self, run: Run, folder: str | None = None) -> set[str]:
        return {file.path for file in self.client.list_artifacts(run.info.run_id, folder)}

    def read(self, run: Run, name: str) -> str:
        """Return an artifact's text."""
        return Path(run.info.artifact_uri.removeprefix("file://"), name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def place(made_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    path = tmp_path_factory.mktemp("mlflow")
    (path / "outputs").mkdir()
    shutil.copy(made_store, path / "outputs")
    done = dinorl_here(path, *TYPED)
    assert done.returncode == 0, done.stdout + done.stderr
    return Place(path)


def test_parent_shows_its_stages(place: Place) -> None:
    parent, _ = place.runs()
    params, metrics, tags = parent.data.params, parent.data.metrics, parent.data.tags
    assert {"species": "trex", "algo": "ppo", "seed": "0", "experiment": "debug"}.items() <= params.items()
    assert params["1.ppo.gamma"] == "0.99" and params["2.ppo.gamma"] == "0.98" and "ppo.gamma" not in params
    assert params["curriculum.timesteps"] == "256" and len(params) < 60
    assert tags["gate.1-balance"] and tags["gate.2-locomotion"] == "advanced_on_budget"
    assert tags["status"] == "DONE" and parent.info.status == "FINISHED"
    states = {
        name: json.loads((place.home / name / "status.json").read_text()) for name in ("1-balance", "2-locomotion")
    }
    for name, state in states.items():
        assert metrics[f"{name}/return_mean"] == pytest.approx(state["evaluation"]["return_mean"], rel=1e-3)
        assert metrics[f"{name}/minutes"] == pytest.approx(state["seconds"] / 60, rel=1e-3)
    assert "2-locomotion/forward_speed_mean_mps" in metrics and "1-balance/forward_speed_mean_mps" not in metrics
    total = sum(state["timesteps"] for state in states.values())
    assert metrics["0-curriculum/steps"] == total and metrics["0-curriculum/gates_passed"] == 0
    steps = [step for step, _ in place.history(parent, "0-curriculum/fall_rate")]
    assert steps == [states["1-balance"]["timesteps"], total], "the stages follow each other"


def test_parent_says_how_it_was_made(place: Place) -> None:
    parent, _ = place.runs()
    note = parent.data.tags["mlflow.note.content"]
    assert "| 2 locomotion | advanced_on_budget | 256 |" in note
    assert f"```sh\ndinorl {' '.join(TYPED)}\n```" in note
    table = json.loads(place.read(parent, "stages.json"))
    assert json.loads(parent.data.tags["mlflow.loggedArtifacts"]) == [{"path": "stages.json", "type": "table"}]
    assert [row[table["columns"].index("stage")] for row in table["data"]] == ["1-balance", "2-locomotion"]


def test_stage_has_standard_tags(place: Place) -> None:
    parent, stages = place.runs()
    for run in (parent, *stages.values()):
        assert run.data.tags["mlflow.source.name"] == "dinorl" and run.data.tags["mlflow.source.type"] == "LOCAL"
        assert run.data.tags["mlflow.user"]
    note = stages["balance"].data.tags["mlflow.note.content"]
    assert "doing nothing" in note and f"dinorl play {place.home / '1-balance'}" in note


def test_stage_has_only_acting_params(place: Place) -> None:
    params = place.runs()[1]["balance"].data.params
    config = flatten(compose(["species=trex"]))
    idle = {key for key in config if key.startswith(("sac.", "tracking."))} | {"plan_only", "resume"}
    assert set(params) == set(config) - idle


def test_stage_has_log_and_config(place: Place) -> None:
    run = place.runs()[1]["locomotion"]
    assert {"train.log", ".hydra", "eval.csv", "null_policies.json", "bundle"} <= place.artifacts(run)
    assert {".hydra/config.yaml", ".hydra/overrides.yaml"} <= place.artifacts(run, ".hydra")
    assert place.read(run, "train.log") == (place.home / "2-locomotion" / "train.log").read_text()


def test_null_policies_are_one_file(place: Place) -> None:
    run, folder = place.runs()[1]["balance"], place.home / "1-balance"
    assert not [key for key in run.data.metrics if "null" in key]
    nulls = json.loads(place.read(run, "null_policies.json"))
    rows = {row["policy"]: row for row in csv.DictReader(RunFolder(folder).eval_csv.open())}
    for name in ("zero", "random"):
        assert nulls[name]["return_mean"] == float(rows[name]["return_mean"])


def test_metrics_first_logged_matter(place: Place) -> None:
    """MLflow lists metrics in this order."""
    lines = (place.home / "2-locomotion" / "tracking.jsonl").read_text().splitlines()
    first = next(entry["metrics"] for entry in map(json.loads, lines) if "metrics" in entry)
    assert next(iter(first)) == "rollout/ep_rew_mean"


def test_model_acts_as_player(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded as docs/mlflow.md says."""
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)  # MLflow changes it
    monkeypatch.chdir(place.path)
    page = (Path(__file__).parent.parent / "docs" / "mlflow.md").read_text(encoding="utf-8")
    loaded: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], loaded)
    model = loaded["policy"]
    bundle = Bundle.open(place.home / "2-locomotion")
    size = len(bundle.arrays("normalization")["obs_mean"])
    observations = np.random.default_rng(0).normal(size=(5, size)).astype(np.float32)
    actions = model.predict(observations)
    assert np.array_equal(actions, load_player(bundle)(observations))
    shapes = [spec.shape for schema in (model.metadata.signature.inputs, model.metadata.signature.outputs)
              for spec in schema]  # fmt: skip
    assert shapes == [(-1, size), (-1, actions.shape[1])] and model.input_example.shape == (1, size)


def test_model_has_no_pickles(place: Place) -> None:
    version = place.client.get_model_version_by_alias("trex-locomotion", "best")
    assert version.run_id == place.runs()[1]["locomotion"].info.run_id
    folder = Path(place.client.get_model_version_download_uri(version.name, version.version).removeprefix("file://"))
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "policy.npz", "config.yaml"} <= files and not [name for name in files if name.endswith(".pkl")]
    assert "python-model" not in (folder / "MLmodel").read_text()
    assert "dinorl==" in (folder / "requirements.txt").read_text()


def test_same_command_sends_nothing_twice(place: Place) -> None:
    parent, stages = place.runs()
    before = {key: place.history(parent, key) for key in parent.data.metrics}
    Spool(place.home / "2-locomotion").path.with_name("tracking.sent").unlink()  # the server's answers were lost
    again = dinorl_here(place.path, *TYPED)
    assert again.returncode == 0 and "0 to train" in again.stdout, again.stdout + again.stderr
    parent, stages = place.runs()
    assert {key: place.history(parent, key) for key in parent.data.metrics} == before
    assert parent.info.status == "FINISHED" and parent.data.tags["status"] == "DONE"
    assert len(place.client.search_model_versions("name = 'trex-locomotion'")) == 1
    assert len(stages["locomotion"].outputs.model_outputs if stages["locomotion"].outputs else [0]) == 1


def test_only_stages_are_results(place: Place) -> None:
    found = [run.tags["stage"] for run in finished_runs("s", place.uri)]
    assert sorted(found) == ["balance", "locomotion"]


def test_moved_store_keeps_models(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(place.path / "outputs", tmp_path / "outputs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    store.create_store(compose([]).tracking)
    moved = Place(tmp_path).client
    version = moved.get_model_version_by_alias("trex-locomotion", "best").version
    assert str(tmp_path) in moved.get_model_version_download_uri("trex-locomotion", version)


# Synthetic stages ----------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingConfig:
    monkeypatch.chdir(tmp_path)
    settings = compose([]).tracking
    store.create_store(settings)
    return settings


def about(rank: list[Any], body: str = "one") -> dict[str, Any]:
    """Return a model's description, as a stage gives it."""
    return {"loader": "dinorl.bundle.pyfunc", "files": ["policy.npz"], "example": [0.0, 1.0], "actions": 1, "step": 9,
            "name": "trex-bite", "rank": rank, "tags": {"mjcf_sha256": body}, "description": "bites"}  # fmt: skip


def send_model(settings: TrackingConfig, folder: Path, rank: list[Any], body: str = "one") -> Spool:
    """Track a stage that leaves a model; return its spool."""
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "policy.npz").write_bytes(b"weights")
    tracker = Tracker(replace(compose([]), tracking=settings), folder)
    tracker.start()
    tracker.log_model(folder / "best", about(rank, body))
    tracker.close("DONE", "passed")
    return Spool(folder)


def test_alias_moves_to_better_only(settings: TrackingConfig, tmp_path: Path) -> None:
    client = store.client(store.embedded_uri())
    ranks = [[False, True, 5.0], [False, False, 99.0], [True, True, 1.0], [True, True, 0.5]]
    for i, (rank, expected) in enumerate(zip(ranks, ("1", "1", "3", "3"), strict=True)):
        assert not send_model(settings, tmp_path / f"run{i}", rank).waiting()
        assert str(client.get_model_version_by_alias("trex-bite", "best").version) == expected
    send_model(settings, tmp_path / "other", [False, False, 0.0], body="changed")
    assert int(client.get_model_version_by_alias("trex-bite", "best").version) == 5, "the others act in another body"


def test_models_can_be_off(settings: TrackingConfig, tmp_path: Path) -> None:
    send_model(replace(settings, models=False), tmp_path / "run", [True, True, 1.0])
    assert not store.client(store.embedded_uri()).search_registered_models()


@pytest.mark.parametrize(("code", "waits"), [("PERMISSION_DENIED", False), ("TEMPORARILY_UNAVAILABLE", True)])
def test_registry_that_fails(
    code: str, waits: bool, settings: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """One that refuses is not asked again; one that is down is, and has one model in the end."""

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("not now", error_code=ErrorCode.Value(code))

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.create_model_version", refuse)
        spool = send_model(settings, tmp_path / "run", [True, True, 1.0])
    assert "not now" in caplog.text and spool.waiting() is waits
    client = store.client(store.embedded_uri())
    run = client.get_run(str(spool.run_id))
    assert run.info.status == "FINISHED" and len(run.outputs.model_outputs) == 1
    assert word("send", tmp_path) == 0 and not Spool(tmp_path / "run").waiting()
    assert len(client.search_model_versions("name = 'trex-bite'")) == waits
    assert len(client.get_run(str(spool.run_id)).outputs.model_outputs) == 1


@pytest.fixture
def psutil(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose use is known; its disks and network cannot be read."""
    memory = SimpleNamespace(used=2e9, total=4e9)
    fake = SimpleNamespace(
        cpu_percent=lambda: 50.0,
        virtual_memory=lambda: memory,
        net_io_counters=lambda: SimpleNamespace(bytes_recv=0, bytes_sent=0),
    )
    before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "psutil", fake)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("mlflow.system_metrics"):
            del sys.modules[name]


def test_system_metrics_have_environment_steps(
    psutil: None, settings: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "EVERY", 0.0)
    cfg = replace(compose([]), tracking=replace(settings, system_metrics=True, log_every=0.05))
    (tmp_path / "run").mkdir()
    tracker = Tracker(cfg, tmp_path / "run")
    tracker.start()
    tracker.log_metrics({"reward/alive": 1.0}, 4096)
    spool = Spool(tmp_path / "run").path
    while not (spool.exists() and re.search(r'"system/.*"step": 4096', spool.read_text())):
        time.sleep(0.01)
    tracker.close("DONE", "passed")
    history = store.client(store.embedded_uri()).get_metric_history(
        str(tracker.run_id), "system/cpu_utilization_percentage"
    )
    assert (4096, 50.0) in {(point.step, point.value) for point in history}


def test_missing_psutil_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "find_spec", lambda name: None)
    done = dinorl_here(tmp_path, "species=trex", "stage=balance", "tracking.system_metrics=true")
    assert done.returncode == 2 and "Type pip install psutil" in done.stderr, done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def lineage() -> tuple[Lineage, dict[str, dict[str, Any]], list[Job]]:
    """Return a curriculum and the states of its stages: the first two are over, the third has failed."""
    jobs: list[Job] = []
    for stage, index in (("balance", 1), ("locomotion", 2), ("behavior", 3)):
        config = compose(["species=trex", f"stage={stage}"])
        jobs.append(Job(stage, index, ["species=trex"], config, None, stage, "trex-ppo-s0"))
    evaluation = {"return_mean": 1.23456, "fall_rate": 0.0, "forward_speed_mean_mps": 4.0, "success_rate": None}
    over = {"status": "DONE", "gate": "passed", "timesteps": 1000, "seconds": 60.0, "evaluation": evaluation,
            "started": "2026-11-30T12:00:00+00:00", "wall_s": 61.0}  # fmt: skip
    states = {"balance": over, "locomotion": over, "behavior": {"status": "FAILED", "gate": "none"}}
    return Lineage("trex-ppo-s0", tuple(jobs)), states, jobs


def test_failed_stage_is_shown(tmp_path: Path) -> None:
    curriculum, states, _ = lineage()
    (tmp_path / "trex-ppo-s0").mkdir()
    entries = parents.entries(curriculum, states, tmp_path, "dinorl species=trex")
    metrics: dict[str, float] = {}
    for entry in entries:
        metrics |= entry.get("metrics", {})
    assert metrics["2-locomotion/gate_steps"] == 1000 and metrics["0-curriculum/gates_passed"] == 2
    assert metrics["1-balance/return_mean"] == 1.235 and not [key for key in metrics if key.startswith("3-")]
    assert entries[-1]["tags"]["gate.3-behavior"] == "failed"
    assert entries == parents.entries(curriculum, states, tmp_path, "dinorl species=trex"), "sent twice"


def test_sweep_outlives_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What MLflow is shown of a sweep cannot be written: the sweep goes on, and ends its runs."""
    curriculum, states, jobs = lineage()
    plan = Plan((curriculum,), tuple(jobs))
    (tmp_path / "trex-ppo-s0" / "stages.json").mkdir(parents=True)
    (tmp_path / "trex-ppo-s0" / "tracking.jsonl").touch()
    LineageRuns(SweepFolder(tmp_path, resume=True), lambda *arguments: None).job_over(plan, jobs[-1], states)
    assert "its run in MLflow lacks numbers of" in capsys.readouterr().out
    assert '"end": "FAILED"' in (tmp_path / "trex-ppo-s0" / "tracking.jsonl").read_text()


def test_third_film_is_the_parents(tmp_path: Path) -> None:
    curriculum, states, _ = lineage()
    film = tmp_path / "trex-ppo-s0" / "3-behavior" / "video.mp4"
    film.parent.mkdir(parents=True)
    film.write_bytes(b"film")
    sent = [entry.get("artifact") for entry in parents.entries(curriculum, states, tmp_path, "")]
    assert "3-behavior/video.mp4" in sent
    del states["behavior"]
    assert "3-behavior/video.mp4" not in [
        entry.get("artifact") for entry in parents.entries(curriculum, states, tmp_path, "")
    ]


def test_command_hides_passwords() -> None:
    typed = ["species=trex", "tracking.uri=postgresql://me:dont-tell@host/runs"]
    assert "dont-tell" not in parents.command_line(typed) and "species=trex" in parents.command_line(typed)


# The page ------------------------------------------------------------------------------------------------------------


def test_ui_opens_on_runs(
    settings: TrackingConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[list[str]] = []

    def serve(command: list[str], env: dict[str, str]) -> SimpleNamespace:
        served.append(command)
        return SimpleNamespace(returncode=0)

    opened: list[str] = []
    monkeypatch.setattr(subprocess, "run", serve)
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("urllib.request.urlopen", lambda page, timeout: open(os.devnull))
    monkeypatch.setenv("DISPLAY", ":0")
    assert word("ui", "--port", "5999") == 0
    page = "http://127.0.0.1:5999/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=dinorl"
    while not opened:
        pass
    assert opened == [page] and f"the runs are at {page}" in capsys.readouterr().out
    assert served[0][-1].endswith(store.ARTIFACTS)
    tags = store.client(store.embedded_uri()).get_experiment("1").tags
    columns = json.loads(json.loads(tags["mlflow.sharedViewState.dinorl"])["state"])["selectedColumns"]
    assert "metrics.`3-behavior/success_rate`" in columns and "tags.`gate.3-behavior`" in columns


def test_saved_view_names_real_columns(place: Place) -> None:
    parent, _ = place.runs()
    known = {"metrics": parent.data.metrics, "tags": parent.data.tags}
    here = [(kind, name) for kind, name in parents.COLUMNS if "3-behavior" not in name]
    assert here and all(name in known[kind] for kind, name in here)


def test_page_reads_saved_views() -> None:
    """The page's own format, which MLflow may change."""
    script = next((Path(mlflow.__file__).parent / "server/js/build/static/js").glob("main.*.js")).read_text()
    for word_of_page in ("mlflow.sharedViewState.", "viewStateShareKey", "selectedColumns", "machine_learning"):
        assert word_of_page in script, f"tracking/view writes {word_of_page}, and MLflow's page does not read it"
