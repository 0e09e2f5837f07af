"""``dinorl diagnose``: run folders and MLflow, what is printed, and what a stage says by itself."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from commands import dinorl_here, word
from diagnosed import SICK, healthy, sick
from omegaconf import OmegaConf

from dinorl.config import Config, ConfigError, compose, flatten, to_container
from dinorl.config.identity import trained_on
from dinorl.files.run_folder import BundleFolder, RunFolder, write_status
from dinorl.sweep import job
from dinorl.tracking import store
from dinorl.tracking.tracker import Tracker
from dinorl.training.evaluations import EvaluationTable
from dinorl.verdicts import diagnosis
from dinorl.verdicts.diagnosis import diagnose, histories
from dinorl.verdicts.history import Evaluation, History, from_folder
from dinorl.verdicts.remedies import repeat

TREX = ["species=trex", "stage=balance", "seed=4", "ppo.gamma=0.98"]


def leave(folder: Path, cfg: Config, name: str = "plateau", gate: str = "advanced_on_budget") -> Path:
    """Write what a sick stage run leaves, and send it to MLflow; the evaluations are synthetic."""
    tracker = Tracker(cfg, folder)
    folder.mkdir(parents=True)
    tracker.start()
    table = EvaluationTable(RunFolder(folder).eval_csv)
    unknown = {"time_to_event_mean_s": float("nan")}
    for policy in ("zero", "random"):
        table.add(100_000, policy, "0/2", {**healthy("trex/balance").kept.metrics, **unknown})
    for evaluation in sick(SICK[name]).evaluations:
        metrics = {**evaluation.metrics, **unknown}
        table.add(evaluation.steps, "policy", "0/2", metrics)
        sent = {f"eval/{key}": value for key, value in metrics.items()}
        tracker.log_metrics(sent | {"gate/consecutive": 0.0}, evaluation.steps)
    table.write()
    best = BundleFolder(RunFolder(folder).best).config
    best.parent.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(to_container(cfg)), best)
    tracker.close("DONE", gate)
    write_status(folder, status="DONE", gate=gate, mlflow_run=tracker.run_id)
    return folder


@pytest.fixture
def run(tmp_path: Path, has_store: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run with a plateau, which is in MLflow too."""
    monkeypatch.chdir(tmp_path)
    cfg = compose([*TREX, "tracking.sweep=first", "tracking.lineage=trex-ppo-s4", "tracking.log_every=0.05"])
    store.create_store(cfg.tracking)
    return leave(tmp_path / "outputs" / "first" / "trex-ppo-s4" / "1-balance", cfg)


def run_id(folder: Path) -> str:
    return str(json.loads(RunFolder(folder).status.read_text())["mlflow_run"])


# Reading --------------------------------------------------------------------------------------------------------------


def test_folder_and_mlflow_agree(run: Path) -> None:
    [folder] = histories(str(run))
    [by_id] = histories(run_id(run))
    [selected] = histories("species=trex stage=balance seed=4")
    assert by_id == selected and by_id.evaluations == folder.evaluations and by_id.kept == folder.kept
    assert by_id.config == folder.config and by_id.gate == folder.gate == "advanced_on_budget"
    assert "time_to_event_mean_s" not in folder.kept.metrics and len(folder.evaluations) == 6
    one, other = diagnose([folder, by_id])
    assert one.found == other.found and one.unmeasured == other.unmeasured
    assert [one.proposals(found) for found in one.found] == [other.proposals(found) for found in other.found]
    assert repeat(folder) == repeat(by_id)


def test_folder_above_runs_is_read(run: Path) -> None:
    [above] = histories(str(run.parent.parent))
    assert above == from_folder(run) and above.name == "trex-ppo-s4/1-balance"


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("0" * 32, "no stage run in"),
        ("species=velociraptor", "no finished stage run"),
        ("outputs", "no bundle there"),
    ],
)
def test_nothing_to_diagnose_is_refused(where: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if where == "outputs":
        RunFolder("outputs/first/trex-ppo-s4/1-balance").eval_csv.unlink()
    assert word("diagnose", where) == 1
    assert message in capsys.readouterr().err


def test_run_without_evaluation_is_refused(run: Path) -> None:
    table = RunFolder(run).eval_csv
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *(row for row in rows if ",policy," not in row)]))
    with pytest.raises(ConfigError, match="no evaluation yet"):
        from_folder(run)


# Printing -------------------------------------------------------------------------------------------------------------


def test_diagnosis_shows_numbers_and_commands(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert word("diagnose", run) == 0
    shown = capsys.readouterr().out
    assert "reaches a plateau below the gate" in shown and "cause: the learning rate is too large" in shown
    assert "growth of the return over the last third: 0.2%, below 2.0% (598 at 400,000 steps, 599 at 600,000)" in shown
    pasted = next(line for line in shown.splitlines() if line.strip().startswith("dinorl "))
    command, _, note = pasted.partition("  # ")
    assert shlex.split(command) == [
        "dinorl", "species=trex", "stage=balance", "algo=ppo", "seed=4", "ppo.gamma=0.98",
        "ppo.learning_rate=3.0e-4", "ppo.learning_rate_end=3.0e-5",
    ]  # fmt: skip
    assert note.startswith("was 0.001, 1.0e-4; published 3e-5; ours PPO 1e-3 to 1e-4")
    assert word("diagnose", run, "--format", "json") == 0
    [written] = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in written["symptoms"]] == ["plateau"] and written["gate"] == "advanced_on_budget"
    assert written["symptoms"][0]["overrides"][1] == ["ppo.ent_coef=0.01"]


def test_healthy_run_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert word("diagnose", "trex/bite") == 0
    assert re.search(r"trex/bite .* none", capsys.readouterr().out)


def test_pasted_command_is_planned(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word("diagnose", run)
    pasted = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("dinorl ")]
    typed = shlex.split(pasted[-1], comments=True)
    done = dinorl_here(tmp_path, *typed[1:], "plan_only=true")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "typed",
    [
        ["species=trex", "stage=locomotion", "algo=sac", "recipe=toml", "seed=2", "warm_start=/a/1-balance"],
        ["species=velociraptor", "stage=behavior", "algo=ppo", "seed=0", "env.prey_distance_range=[1.0,3.0]",
         "curriculum.ramp_start_value=null", "warm_start='/a b/2-locomotion'"],
    ],
)  # fmt: skip
def test_repeated_run_has_same_config(typed: list[str]) -> None:
    cfg, only = compose(typed), Evaluation(1, 0, {})
    again = repeat(History("", "", flatten(cfg), "", [only], only))
    repeated = compose(again)
    assert trained_on(repeated) == trained_on(cfg) and repeated.warm_start == cfg.warm_start
    assert set(again) <= {*typed, "recipe=toml"}, "nothing but what was typed"


def test_repeat_needs_what_starts_a_run() -> None:
    """A warm start without a hand-over is refused."""
    only = Evaluation(1, 0, {})
    cfg = compose(["species=trex", "stage=locomotion", "algo=sac", "warm_start=/a/1-balance"])
    assert cfg.curriculum.hand_over == "nothing"
    assert not [one for one in repeat(History("", "", flatten(cfg), "", [only], only)) if "warm_start" in one]


# By itself ------------------------------------------------------------------------------------------------------------


def test_failing_diagnosis_harms_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Lines(job.Listener):
        def say(self, text: str) -> None:
            said.append(text)

    job._diagnose("advanced_on_budget", tmp_path, Lines())  # an empty folder
    assert not said
    monkeypatch.setattr(diagnosis, "in_short", lambda folder: ["limps"])
    job._diagnose("advanced_on_budget", tmp_path, Lines())
    job._diagnose("passed", tmp_path, Lines())
    assert said == ["limps"]
