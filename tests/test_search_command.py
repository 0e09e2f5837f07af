"""Searches through the command line: killed, recorded in MLflow, refused before anything is written."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from commands import dinorl_here
from filelock import FileLock
from omegaconf import OmegaConf
from searches import COMMAND, begin, differences, journal_lines, kill, statuses, wait_for

from dinorl.files.run_folder import SearchFiles
from dinorl.tracking import store


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, made_store: Path) -> Path:
    folder = tmp_path_factory.mktemp("search")
    (folder / "outputs").mkdir()
    shutil.copy(made_store, folder / "outputs")
    return folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, made_store: Path) -> tuple[Path, str]:
    """An uninterrupted search, one for all workers of pytest-xdist: its folder and its output."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "searched"
    output = home / "output.txt"
    with FileLock(home.with_suffix(".lock")):
        if not output.exists():
            (home / "outputs").mkdir(parents=True)
            shutil.copy(made_store, home / "outputs")
            done = dinorl_here(home, *COMMAND, "sweep.name=whole")
            assert done.returncode == 0, done.stdout + done.stderr
            output.write_text(done.stdout)
    return home / "outputs" / "whole", output.read_text()


def test_killed_search_is_equal(searched: tuple[Path, str], place: Path) -> None:
    """The command is killed, then the process of a stage; ``make torture`` kills the command twice."""
    whole = journal_lines(searched[0])
    kill(place, "killed", (3,), len(whole), begin)
    assert not differences(searched[0], place / "outputs" / "killed")
    assert '"prune"' in "".join(whole) and '"end"' in "".join(whole)


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.long)])
def test_population_takes_over(killed: bool, place: Path) -> None:
    """Also if it is killed once it was written who takes over whom."""
    typed = ("search.scheduler=pbt", "search.samples=2", "search.interval=256", "curriculum.timesteps=512")
    name = f"population-{killed}"
    folder = place / "outputs" / name
    if killed:
        first = begin(place, *typed, f"sweep.name={name}")
        wait_for(first, folder, 5)
        first.send_signal(signal.SIGKILL)
        first.communicate()
    last = begin(place, *typed, f"sweep.name={name}")
    output, _ = last.communicate(timeout=240)
    assert last.returncode == 0 and "how the policy of trial" in output, output
    lines = [json.loads(line) for line in journal_lines(folder)]
    reports = sorted((line["trial"], line["steps"]) for line in lines if "decision" in line)
    assert reports == [(trial, steps) for trial in (0, 1) for steps in (128, 256, 384, 512)], "reported twice or never"
    (exchange,) = [line for line in lines if "takeovers" in line]
    (one,) = exchange["takeovers"]
    assert exchange["steps"] == 256 and {one["trial"], one["source"]} == {0, 1} and lines.count({"complete": 1}) == 1
    assert statuses(folder) == dict.fromkeys(("trial-0-s0", "trial-1-s0"), ("DONE", "advanced_on_budget"))
    run = folder / f"trial-{one['trial']}-s0" / "1-balance"
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert {key: str(OmegaConf.select(config, key)) for key in one["values"]} == one["values"]
    row = next(row for row in csv.DictReader(SearchFiles(folder).trials.open()) if int(row["trial"]) == one["trial"])
    assert row["schedule"].startswith("0: ") and f"256: ppo.gamma={one['values']['ppo.gamma']}" in row["schedule"]
    spool = (run.parent / "tracking.jsonl").read_text()
    assert '"schedule"' in spool and '"search/ppo.learning_rate"' in spool


def test_trials_are_ordinary_runs(searched: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = searched
    ends = {line["trial"]: line["decision"] for line in map(json.loads, journal_lines(folder))}
    expected = {"prune": ("PRUNED", "stopped_by_listener"), "end": ("DONE", "advanced_on_budget")}
    assert statuses(folder) == {f"trial-{trial}-s0": expected[end] for trial, end in ends.items()}
    for run in folder.glob("*/1-balance"):
        assert (run / ".hydra" / "overrides.yaml").exists() and (run / "bundle" / "best" / "meta.json").exists()
    monkeypatch.chdir(folder.parent.parent)
    client = store.client(store.embedded_uri())
    experiment = client.get_experiment_by_name("dinorl")
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id], "tags.sweep = 'whole'")}
    parents = {run_id: runs.get(run.data.tags.get("mlflow.parentRunId")) for run_id, run in runs.items()}
    top = next(runs[run_id] for run_id, parent in parents.items() if parent is None)
    assert sum(parent is top for parent in parents.values()) == len(ends) == 5
    stages = [run for run in runs.values() if "stage" in run.data.tags]
    assert len(stages) == 5 and {run.data.tags["status"] for run in stages} == {"DONE", "PRUNED"}
    for run in stages:
        trial = parents[run.info.run_id]
        assert trial is not None and parents[trial.info.run_id] is top
        assert trial.data.params["ppo.gamma"] == str(float(run.data.params["ppo.gamma"]))
        assert trial.data.tags["status"] == run.data.tags["status"]
    assert {"trials.csv", "scores.png", "keys.png"} <= {file.path for file in client.list_artifacts(top.info.run_id)}


def test_report_names_winner(searched: tuple[Path, str]) -> None:
    folder, output = searched
    rows = list(csv.DictReader(SearchFiles(folder).trials.open()))
    finished = [row for row in rows if row["outcome"] == "finished"]
    assert rows[0] is max(finished, key=lambda row: float(row["score"])) and len(rows) == 5
    words = " ".join(output.split())
    assert f"ppo.learning_rate={rows[0]['ppo.learning_rate']}" in words.partition("best: dinorl stage=balance")[2]
    trained = sum(int(row["trained"]) for row in rows)
    assert f"{trained:,} environment steps, {trained / (5 * 1024):.0%} of the 5,120 at most" in words
    assert "too few trials to tell (5; it takes 12)" in words


def test_finished_search_trains_nothing(searched: tuple[Path, str]) -> None:
    place = searched[0].parent.parent
    before = {path: path.stat().st_mtime_ns for path in searched[0].glob("*/*/status.json")}
    again = dinorl_here(place, *COMMAND, "sweep.name=whole")
    assert again.returncode == 0 and "best trials" in again.stdout, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    other = dinorl_here(place, *COMMAND, "sweep.name=whole", "search.grace=512")
    assert other.returncode == 2 and "search.grace was 256, is 512. Type another sweep.name" in other.stderr


@pytest.mark.parametrize("typed, message", [
    (("hydra/sweeper=search",), "there is nothing to search"),
    (("search.samples=3",), "search.samples: only a search uses it. Type hydra/sweeper=search"),
    (("ppo.gamma=interval(0.9,0.99)",), "or search the interval with hydra/sweeper=search"),
    (("hydra/sweeper=search", "ppo.gamma=interval(0.9,1.5)"), "ppo.gamma=1.5: expected a number in (0, 1]"),
    (("hydra/sweeper=search", "sim.n_envs=1024,512", "search.scheduler=pbt"), "sim.n_envs: cannot change while"),
    (("hydra/sweeper=search", "ppo.gamma=0.9,0.99", "search.algorithm=optuna"), "Type pip install optuna"),
    (("hydra/sweeper=search", "ppo.gamma=0.9,0.99", "search.grace=9000000"), "a trial has only"),
])  # fmt: skip
def test_wrong_searches_write_nothing(typed: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = dinorl_here(tmp_path, "species=trex", "stage=balance", *typed)
    assert done.returncode == 2 and message in done.stderr, done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_plan_shows_space(tmp_path: Path) -> None:
    typed = ("hydra/sweeper=search", "sweep=trex_run", "species=trex", "stage=locomotion", "warm_start=trex/balance")
    done = dinorl_here(tmp_path, *typed, "plan_only=true")
    assert done.returncode == 0 and "30 trials: 2 locomotion" in done.stdout, done.stdout + done.stderr
    assert "0.0001 … 0.003 (log)" in done.stdout and "warm_start=trex/balance" in done.stdout
    assert "doubt" not in done.stdout, "the file's metric was not used"
    assert not list(tmp_path.iterdir())
