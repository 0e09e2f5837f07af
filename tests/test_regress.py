"""``dinorl regress``: which runs it compares with, which stages are worse, and that it can be typed again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import dinorl_here, word
from made_runs import made_run
from small import SMALL

from dinorl.commands import TRAIN, load
from dinorl.config import Config, ConfigError, compose
from dinorl.sweep.rerun import plan_rerun
from dinorl.verdicts.regression import check, compare_stages, find_baseline

STAGES = ("balance", "locomotion")
METRICS = {"balance": "fall_rate", "locomotion": "forward_speed_mean_mps"}


@pytest.fixture
def here(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def configs() -> list[Config]:
    return [compose(["species=trex", f"stage={stage}"]) for stage in STAGES]


def curricula(
    sweep: str, *overrides: str, speeds: Sequence[float] = (4.0, 4.1, 4.2), stages: Sequence[str] = STAGES,
    gates: Sequence[str] = ("passed",) * 3, points: int = 2,
) -> None:  # fmt: skip
    """Make curricula with these locomotion speeds, one a seed, that passed their gates after some evaluations."""
    for seed, speed in enumerate(speeds):
        for stage in stages:
            scores = [0.0] * points if stage == "balance" else [speed] * points
            made_run(
                "species=trex", f"stage={stage}", *overrides, scores=scores, metric=METRICS[stage], seed=seed,
                sweep=sweep, gate=gates[seed],
            )  # fmt: skip


def verdicts(configs: Sequence[Config]) -> dict[str, dict[str, str]]:
    baseline = find_baseline(configs, "now", None, None)
    results = compare_stages(configs, baseline, "now", None, None)
    return {result.stage: {check.what: check.verdict for check in result.checks} for result in results}


# The baseline --------------------------------------------------------------------------------------------------------


def test_newest_other_recipe_is_baseline(here: Path, configs: list[Config]) -> None:
    curricula("older", "ppo.gamma=0.97")
    curricula("before", "ppo.gamma=0.98")
    curricula("same", speeds=(4.0,))
    curricula("few_animals", "sim.n_envs=256", "ppo.gamma=0.98", speeds=(4.0,))
    curricula("one_stage", "ppo.gamma=0.98", stages=("balance",), speeds=(4.0,))
    curricula("now", speeds=(4.0,))
    found = find_baseline(configs, "now", None, None)
    assert str(found) == "before (seeds 0, 1, 2): 1.ppo.gamma 0.98 → 0.99; 2.ppo.gamma 0.98 → 0.99"


def test_same_recipe_is_last_choice(here: Path, configs: list[Config]) -> None:
    curricula("same", speeds=(4.0,))
    assert str(find_baseline(configs, "now", None, None)) == "same (seeds 0): the recipe is the same"


def test_overridden_recipe_is_no_baseline(here: Path, configs: list[Config]) -> None:
    curricula("tried", "ppo.gamma=0.97", speeds=(4.0,))
    for stage in STAGES:
        typed = here / "outputs" / "tried" / "trex-ppo-s0" / f"{1 + STAGES.index(stage)}-{stage}" / ".hydra"
        typed.mkdir(parents=True)
        (typed / "overrides.yaml").write_text("- species=trex\n- ppo.gamma=0.97\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no finished sweep has whole curricula of trex with ppo.* --against SWEEP"):
        find_baseline(configs, "now", None, None)
    assert find_baseline(configs, "now", "tried", None).name == "tried"


def test_named_baseline_has_one_recipe(here: Path, configs: list[Config]) -> None:
    curricula("both", "ppo.gamma=0.97", speeds=(4.0,))
    curricula("both", "ppo.gamma=0.98", speeds=(4.0, 4.0))
    with pytest.raises(ConfigError, match=r"differ in ppo.gamma: .* Select one value: ppo.gamma=0.9"):
        find_baseline(configs, "now", "both", None)
    found = find_baseline(configs, "now", "both ppo.gamma=0.98", None)
    assert [run.seed for run in found.runs["balance"]] == [0, 1]


def test_other_setup_is_noted(here: Path, configs: list[Config]) -> None:
    curricula("few_animals", "sim.n_envs=256", speeds=(4.0,))
    assert "balance: sim.n_envs was 256, is 512" in find_baseline(configs, "now", "few_animals", None).notes[0]


# The comparison ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now, verdict", [
    ((3.0, 3.1, 3.2), "worse"), ((5.0, 5.1, 5.2), "better"), ((3.0, 4.0, 5.0), "cannot tell"),
    ((3.0, 3.1), "cannot tell"), ((3.0, math.nan, 3.1), "cannot tell"),
])  # fmt: skip
def test_worse_is_beyond_interval(now: tuple[float, ...], verdict: str) -> None:
    assert check("speed", ".2f", (4.0, 4.1, 4.2), now, more_is_better=True).verdict == verdict


def test_equal_numbers_are_equal() -> None:
    assert check("falls", ".1%", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), more_is_better=False).verdict == "equal"
    assert check("falls", ".1%", (0.0, 0.0, 0.0), (0.1, 0.1, 0.1), more_is_better=False).verdict == "worse"


def test_gate_and_its_steps_count(here: Path, configs: list[Config]) -> None:
    curricula("before", "ppo.gamma=0.98", stages=STAGES[:1])
    curricula("now", points=4, stages=STAGES[:1])
    same = {"falls": "equal", "gate passed": "equal", "environment steps to the gate": "worse"}
    assert verdicts(configs[:1])["balance"] == same
    curricula("now", points=4, gates=("advanced_on_budget",) * 3, stages=STAGES[:1])
    assert verdicts(configs[:1])["balance"] == same | {"gate passed": "worse"}


# The command ---------------------------------------------------------------------------------------------------------


def test_name_follows_recipe() -> None:
    bite = ["species=trex", "stage=behavior"]
    one, again = plan_rerun([*bite, "seed=0,1"]), plan_rerun([*bite, "seed=0,1,2"])
    other = plan_rerun([*bite, "seed=0,1", "3.ppo.gamma=0.98"])
    assert one.sweep == again.sweep != other.sweep and one.sweep.startswith("regress-trex-ppo-")
    assert one.named == (f"sweep.name={one.sweep}",)
    assert [config.stage_label for config in one.curricula[0]] == ["bite"]
    assert plan_rerun(["species=trex", "stage=balance", "sweep.name=mine"]).named == ()


@pytest.mark.parametrize("typed, said", [
    ("ppo.gamma=0.9,0.99", "a regression compares one recipe. Type ppo.gamma=0.9"),
    ("hydra.sweep.dir=x", "a regression is known by its name. Type sweep.name="),
    ("ppo.gama=0.9", "there is no such key; the nearest is ppo.gamma"),
])  # fmt: skip
def test_wrong_override_trains_nothing(
    typed: str, said: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load(TRAIN), "run", lambda arguments: pytest.fail("trained"))
    assert word("regress", "species=trex", typed) == 2
    assert said in capsys.readouterr().err


def test_incomparable_metric_trains_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    curricula("before", "env.alive_bonus=2", "curriculum.max_fall_rate=0.5", speeds=(4.0,))
    monkeypatch.setattr(load(TRAIN), "run", lambda arguments: pytest.fail("trained"))
    for metric, key in (("return_mean", "env.alive_bonus"), ("gate_steps", "curriculum.max_fall_rate")):
        assert word("regress", "species=trex", f"stage={','.join(STAGES)}", "--metric", metric) == 2
        assert f"{metric}: cannot be compared, for {key} changed" in capsys.readouterr().err


def test_worse_stage_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    curricula("before", "ppo.gamma=0.98")
    curricula("now", speeds=(3.0, 3.1, 3.2))
    trained: list[list[str]] = []
    monkeypatch.setattr(load(TRAIN), "run", lambda arguments: trained.append(arguments) or 0)
    typed = ["species=trex", f"stage={','.join(STAGES)}", "sweep.name=now"]
    assert word("regress", *typed, "--json", "numbers.json") == 1
    assert trained == [[*typed, "seed=0,1,2"]]
    out = capsys.readouterr().out
    assert "against before (seeds 0, 1, 2): 1.ppo.gamma 0.98 → 0.99" in out
    assert "WORSE: trex locomotion (ppo): forward speed, m/s 4.10 → 3.10 [-1.13, -0.87]" in out
    numbers = json.loads((here / "numbers.json").read_text(encoding="utf-8"))
    assert [check["verdict"] for check in numbers["stages"][1]["checks"]] == ["worse", "equal", "equal"]


def test_regression_is_trained_once(here: Path) -> None:
    small = [*(override for override in SMALL if not override.startswith("sac.")), "stage=balance"]
    made_run(*small, "ppo.gamma=0.98", scores=(0.5,), metric="fall_rate", sweep="before", gate="advanced_on_budget")
    typed = ["regress", *small, "seed=0"]
    done = dinorl_here(here, *typed)
    assert done.returncode == 0, done.stdout + done.stderr
    unclear = "falls, gate passed (seeds before: 1, now: 1; a verdict takes 3)"
    assert f"cannot tell: trex balance (ppo): {unclear}" in done.stdout
    assert done.stdout.rstrip().endswith("no stage is worse")
    again = dinorl_here(here, *typed)
    assert again.returncode == 0 and "done before" in again.stdout
    assert len(list((here / "outputs").glob("regress-trex-ppo-*/*/1-balance/bundle/best"))) == 1
