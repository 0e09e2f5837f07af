"""The zoo, and the README's table of results."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import word

from dinorl.bundle import locate
from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import resolve
from dinorl.config import ConfigError, compose
from dinorl.files.run_folder import write_status
from dinorl.reports import results, zoo
from dinorl.tracking import store
from dinorl.tracking.tracker import Tracker


@pytest.fixture
def empty_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (locate, zoo):
        monkeypatch.setattr(module, "SPECIES_DIR", tmp_path / "species")
    return tmp_path / "species"


def test_added_run_resolves_by_name(stage_run: Path, empty_zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert word("zoo", "add", stage_run) == 0
    shipped = resolve("trex/bite")
    assert shipped == empty_zoo / "trex" / "zoo" / "bite"
    assert {p.name for p in shipped.iterdir()} == {
        "policy.npz",
        "normalization.npz",
        "config.yaml",
        "meta.json",
        "card.json",
    }
    about = zoo.card(shipped)
    assert about["evaluation"]["episodes"] == 200 and "zero" in about["evaluation"]["null"]
    assert about["recipe"] is None, "the run was composed without Hydra's command: nobody knows"
    assert about["mjcf_sha256"] == Bundle(shipped).meta["mjcf_sha256"] and Bundle(shipped).outdated() is None
    capsys.readouterr()
    assert word("zoo", "list") == 0
    listed = capsys.readouterr().out
    assert "trex/bite" in listed and "%" in listed
    before = (shipped / "policy.npz").read_bytes()
    assert word("zoo", "add", shipped) == 0, "a zoo bundle may be added again"
    assert (shipped / "policy.npz").read_bytes() == before and zoo.card(shipped)["seed"] == about["seed"]
    (shipped / "card.json").write_text(json.dumps(about | {"seed": 7, "evaluation": None}))
    assert word("zoo", "measure", "trex/bite") == 0
    assert zoo.card(shipped) == about | {"seed": 7}, "the same numbers; the rest of the card stays"


def test_zoo_bundle_drops_machine_paths(stage_run: Path, empty_zoo: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(stage_run, tmp_path / "run"))
    config = run / "bundle" / "best" / "config.yaml"
    text = config.read_text()
    assert "warm_start: null" in text and "parent: null" in text
    (run / ".hydra").mkdir()
    (run / ".hydra" / "hydra.yaml").write_text(
        "hydra: {overrides: {task: [species=trex, seed=0, ppo.gamma=0.9]}, runtime: {choices: {recipe: default}}}"
    )
    config.write_text(text.replace("warm_start: null", "warm_start: /home/me/1").replace("parent: null", "parent: /me"))
    word("zoo", "add", run)
    assert "/me" not in (resolve("trex/bite") / "config.yaml").read_text()
    assert zoo.card(resolve("trex/bite"))["recipe"] == {"name": "default", "overrides": ["ppo.gamma=0.9"]}


def test_outdated_bundle_reports_no_metrics(
    stage_run: Path, empty_zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word("zoo", "add", stage_run)
    meta = resolve("trex/bite") / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"mjcf_sha256": "0" * 64}))
    capsys.readouterr()
    assert word("zoo", "list") == 0
    listed = capsys.readouterr().out
    assert "the model of trex has changed" in listed and "%" not in listed
    assert word("zoo", "measure", "trex/bite") == 1
    assert "has changed" in capsys.readouterr().err


def test_unknown_zoo_name_reported(empty_zoo: Path) -> None:
    with pytest.raises(ConfigError, match=r"trex/bite: no bundle there.*dinorl zoo list shows"):
        resolve("trex/bite")


def measured(**changes: Any) -> dict[str, Any]:
    gait = {"stride_hz": 1.9, "alternation": 0.98, "name": "run"}
    own = {"return_mean": 1500.0, "forward_speed_mean_mps": 4.2, "success_rate": 0.96, "success_lcb95": 0.93}
    null = {"fall_rate": 0.6, "forward_speed_mean_mps": 0.0, "success_rate": 0.0}
    return (
        own
        | {
            "fall_rate": 0.01,
            "full_episodes_lcb95": 0.97,
            "gait": gait,
            "null": {"zero": null, "random": null | {"fall_rate": 1.0}},
        }
        | changes
    )


def test_results_rows_aggregate_seeds() -> None:
    first = results.Result(
        "T. rex", "locomotion", 2, "ppo", 0, 0, {"gate": "passed", "timesteps": 2_000_000, "seconds": 120.0}, measured()
    )
    slower = measured(forward_speed_mean_mps=3.8, gait={"stride_hz": 2.1, "alternation": 0.9, "name": "skip"})
    second = replace(
        first,
        seed=1,
        status={"gate": "advanced_on_budget", "timesteps": 3_000_000, "seconds": 240.0},
        evaluation=slower,
    )
    bite = replace(first, stage="bite", index=3)
    moved, bitten = results.rows([first, second, bite])
    assert moved == ("T. rex", "locomotion", "PPO", "1 of 2 (0, 1)", "2.00 M, not in 3.00 M", "3.0", "1500",
                     "1.0% (3.0%)", "4.00", "", "2.0", "0.94", "run or skip", "0.0 m/s", "0.0 m/s")  # fmt: skip
    assert bitten[9] == "96.0% (93.0%)" and bitten[-2:] == ("0% success", "0% success")
    beside = replace(second, threads=1)  # its minutes are not of all cores
    assert results.rows([first, beside])[0][5] == "2.0" and results.rows([beside])[0][5] == "4.0 (1 thread)"
    balance = results.rows([replace(first, stage="balance", index=1)])[0]
    assert balance[-2:] == ("60% falls", "100% falls") and balance[8] == ""


def test_overwritten_run_folder_excluded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = compose(["species=trex", "stage=balance"])
    store.create_store(cfg.tracking)
    (tmp_path / "run").mkdir()
    tracker = Tracker(cfg, tmp_path / "run")
    tracker.start()
    tracker.close("DONE", "passed")
    one = results.Result("T. rex", "balance", 1, "ppo", 0, 0, {}, {})
    monkeypatch.setattr(results, "_result", lambda folder, status: one)
    for status, found in (("DONE", [one]), ("RUNNING", [])):
        write_status(tmp_path / "run", status=status)
        assert results.collect() == found


def test_readme_rewrite_between_markers_only(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    row = ("a",) * len(results.HEADER)
    results.rewrite(readme, [row])
    text = readme.read_text()
    assert text.startswith(f"before\n{results.BEGIN}\n| animal |") and text.endswith(f"a |\n{results.END}\nafter\n")
    assert "old" not in text
    readme.write_text("nothing")
    with pytest.raises(ConfigError, match="expected the lines"):
        results.rewrite(readme, [])


def test_unmeasured_rows_are_preserved() -> None:
    def row(*names: str, value: str) -> tuple[str, ...]:
        return (*names, *(value,) * (len(results.HEADER) - 3))

    bite, run, other = ("T. rex", "bite", "PPO"), ("T. rex", "locomotion", "PPO"), ("Brachiosaurus", "balance", "SAC")
    before = results.markdown([row(*run, value="1"), row(*bite, value="1")])
    after = results.merged(before, [row(*other, value="2"), row(*bite, value="2")])
    assert after == [row(*other, value="2"), row(*run, value="1"), row(*bite, value="2")]
    assert results.merged("| other | table |\n|---|---|\n| x | y |", [row(*bite, value="2")]) == after[2:]
