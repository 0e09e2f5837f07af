"""``dinorl compare``: its numbers, its verdicts and what it refuses."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from commands import word
from made_runs import STEPS, Evaluation, plain_run
from scipy import stats

from dinorl.reports.curves import common_steps
from dinorl.verdicts.records import Curve

PPO, SAC = (0.6, 0.9, 0.7, 0.55, 0.8), (0.75, 0.7, 0.95, 0.9, 0.8)
SLOW, FAST = (1.0, 1.4, 1.2, 1.1), (2.0, 2.1, 1.9, 2.5)


@pytest.fixture(scope="module")
def store(made_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made runs."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "outputs").mkdir()
    shutil.copy(made_store, folder / "outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_runs()
    return folder


def make_runs() -> None:
    for algo, scores in (("ppo", PPO), ("sac", SAC)):
        for seed, score in enumerate(scores):
            # the second evaluation is kept: it meets the gate, the third has a higher return
            evaluations = [Evaluation(1.0, success_rate=0.1), Evaluation(5.0, 1, success_rate=score)]
            evaluations.append(Evaluation(9.0, success_rate=0.2))
            plain_run(evaluations, seed=seed, algo=algo, sweep="algorithms", params={"algo.name": algo})
    for sweep, rate, scores in (("slow", "0.0001", SLOW), ("fast", "0.001", FAST)):
        for seed, score in enumerate(scores):
            own: dict[str, Any] = {"sweep": sweep, "seed": seed, "params": {"ppo.learning_rate": rate}}
            for species in ("trex", "velociraptor"):
                plain_run(
                    [Evaluation(1.0, forward_speed_mean_mps=score)], stage="locomotion", species=species,
                    tags={"job": f"{species}{sweep}{seed}"}, **own,
                )  # fmt: skip
            count = 2 if sweep == "fast" else 3 + seed
            gate = "advanced_on_budget" if (sweep, seed) == ("slow", 3) else "passed"
            plain_run([Evaluation(1.0, fall_rate=0.0)] * count, stage="balance", tags={"gate": gate}, **own)
    for seed in range(2):
        plain_run([Evaluation(1.0, success_rate=0.5)], seed=seed, sweep="two", params={"env.alive_bonus": "2.0"})
        plain_run(
            [Evaluation(1.0)],
            seed=seed,
            sweep="lacking",
            tags={"gate": "not proven"},
            params={"curriculum.max_fall_rate": "0"},
        )


@pytest.fixture
def here(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)


def compared(capsys: pytest.CaptureFixture[str], *typed: str | Path) -> dict[str, Any]:
    assert word("compare", *typed, "--format", "json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def iqm(scores: Sequence[float]) -> float:
    return float(stats.trim_mean(scores, 0.25))


def ends(values: Sequence[float]) -> list[float]:
    return list(np.percentile(values, [2.5, 97.5]))


def wins(one: Sequence[float], other: Sequence[float]) -> float:
    return sum((x > y) + 0.5 * (x == y) for x in one for y in other) / (len(one) * len(other))


def test_numbers_are_an_independent_computation(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The interquartile mean is SciPy's, the bootstrap a plain loop, on the same runs."""
    task = compared(capsys, "algorithms", "--by", "algo")["tasks"][0]
    assert (task["species"], task["stage"], task["metric"]) == ("trex", "bite", "success_rate")
    assert task["scores_of"] == "evaluation of the kept bundle"
    draws, means = random.Random(1), {}
    for group, scores in zip(task["groups"], (PPO, SAC), strict=True):
        assert sorted(group["scores"]) == sorted(scores)
        assert group["interquartile_mean"] == pytest.approx(iqm(scores))
        means[group["label"]] = [iqm(draws.choices(scores, k=len(scores))) for _ in range(4000)]
        assert group["interval"] == pytest.approx(ends(means[group["label"]]), abs=0.02)
        assert (group["seeds"], group["gate_passed"], group["minutes"]) == ([0, 1, 2, 3, 4], 5, 2.0)
    verdict = task["verdicts"][0]
    assert (verdict["one"], verdict["other"]) == ("sac", "ppo")
    assert verdict["difference"] == pytest.approx(iqm(SAC) - iqm(PPO))
    assert verdict["interval"] == pytest.approx(ends(np.subtract(means["sac"], means["ppo"]).tolist()), abs=0.02)
    assert verdict["improvement"] == pytest.approx(wins(SAC, PPO))
    resampled = [wins(draws.choices(SAC, k=5), draws.choices(PPO, k=5)) for _ in range(4000)]
    assert verdict["improvement_interval"] == pytest.approx(ends(resampled), abs=0.04)


def test_overlap_has_no_winner(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    task = compared(capsys, "algorithms", "--by", "algo")["tasks"][0]
    one, other = (group["interval"] for group in task["groups"])
    assert one[0] <= other[1] and other[0] <= one[1]
    verdict = task["verdicts"][0]
    assert task["winner"] is None and verdict["better"] is None
    freedom, scores = len(PPO) + len(SAC) - 2, (np.array(PPO), np.array(SAC))
    deviation = np.sqrt(sum(((s - s.mean()) ** 2).sum() for s in scores) / freedom)
    enough = (2 * 1.96 * deviation / verdict["difference"]) ** 2
    assert verdict["more_seeds"] == np.ceil(enough) - 5
    assert verdict["why"] == (
        f"No winner between sac and ppo: their intervals overlap; about {verdict['more_seeds']} more seeds a group "
        "would decide."
    )


def test_winner_is_apart(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "slow", "fast")
    task = next(task for task in found["tasks"] if task["stage"] == "locomotion")
    assert task["winner"] == "fast"
    assert task["verdicts"][0]["why"] == (
        "fast is better than slow: their intervals do not overlap (runs dealt at random differ as much in 5.7% of "
        "cases)."
    )
    assert task["verdicts"][0]["more_seeds"] == 0
    assert task["differences"] == {"ppo.learning_rate": {"slow": ["0.0001"], "fast": ["0.001"]}}
    over = found["overall"]
    assert [one["tasks"] for one in over] == [["trex locomotion", "velociraptor locomotion"]]
    assert (over[0]["better"], over[0]["improvement"], over[0]["interval"]) == ("fast", 1.0, [1.0, 1.0])


def test_less_may_be_better(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that did not pass counts as many steps as the longest."""
    found = compared(capsys, "slow", "fast", "--metric", "gate_steps")
    task = next(task for task in found["tasks"] if task["stage"] == "balance")
    slow, fast = task["groups"]
    assert fast["scores"] == [2 * STEPS] * 4
    assert slow["scores"] == [3 * STEPS, 4 * STEPS, 5 * STEPS, 6 * STEPS] and slow["gate_passed"] == 3
    assert slow["mean_gate_steps"] == 4 * STEPS
    assert task["winner"] == "fast" and task["verdicts"][0]["difference"] == -2.5 * STEPS


def test_equal_runs_say_so(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert word("compare", "slow stage=balance", "fast stage=balance") == 0
    shown = capsys.readouterr().out
    assert "every run has 0.0%; --metric gate_steps may tell them apart." in shown
    assert "evaluation of the kept bundle" in shown


def test_two_seeds_are_no_verdict(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    task = compared(capsys, "two", "algorithms algo=sac")["tasks"][0]
    verdict = task["verdicts"][0]
    assert verdict["better"] is None and verdict["more_seeds"] >= 1
    assert verdict["why"].startswith(
        "No winner between algorithms algo=sac and two: a verdict takes 3 seeds a group, so 1 more at least"
    )


def test_one_seed_has_no_interval(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "two seed=0")
    task = found["tasks"][0]
    assert task["groups"][0]["interval"] is None and task["verdicts"] == []
    assert task["notes"] == ["two seed=0: one seed has no interval; it takes two."]
    assert found["remarks"] == ["One group, so no verdict. Here nothing but the seed varies."]


def test_missing_scores_are_no_verdict(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    task = compared(capsys, "lacking", "algorithms algo=sac")["tasks"][0]
    assert task["verdicts"] == [] and task["groups"][0]["scores"] == [None, None]
    assert task["notes"] == [
        "lacking: 2 of 2 runs have no success_rate at the kept evaluation.",
        "lacking: 2 of 2 gates are not proven and do not count as passed.",
        "The gates differ: curriculum.max_fall_rate.",
    ]


def test_rerun_counts_once(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The newest of equal runs counts; other configs and other earlier stages are runs of their own."""
    monkeypatch.chdir(tmp_path)

    def run(score: float, seed: int = 0, **own: Any) -> None:
        plain_run([Evaluation(1.0, success_rate=score)], seed=seed, **own)

    run(0.1)
    run(0.2, params={"sim.threads": "2"})
    run(0.3, params={"warm_start": "/elsewhere/trex-ppo-s0-1.ppo.gamma-0.9/1-balance"})
    run(0.4, seed=1, tags={"job": "one"})
    run(0.5, seed=1, tags={"job": "one"})
    run(0.6, seed=1, tags={"job": "other"})
    task = compared(capsys, "made")["tasks"][0]
    assert sorted(task["groups"][0]["scores"]) == [0.2, 0.3, 0.5, 0.6]
    assert task["notes"][0] == (
        "made: seeds 0, 1 were trained more than once with the same config; the newest run counts."
    )
    assert task["notes"][1] == "made: mixed starts, for seed 0 has runs with different earlier stages."
    run(0.7, seed=2, params={"ppo.learning_rate": "0.5"})
    task = compared(capsys, "made")["tasks"][0]
    assert "made: mixed configs, for runs differ in ppo.learning_rate." in task["notes"]


def test_groups_by_parameter(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "slow,fast,algorithms stage=locomotion,balance", "--by", "ppo.learning_rate")
    assert [group["label"] for group in found["tasks"][0]["groups"]] == ["learning_rate=0.0001", "learning_rate=0.001"]
    found = compared(capsys, "slow,fast", "--by", "git_sha")
    assert [group["label"] for group in found["tasks"][0]["groups"]] == ["12345678"]
    assert found["remarks"] == [
        "git_sha is the same in all runs. One group, so no verdict. Here sweep, ppo.learning_rate vary; type e.g. --by "
        "sweep."
    ]


def test_longer_training_is_said(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Stages end when their gate is passed: the faster runner may only have trained longer."""
    monkeypatch.chdir(tmp_path)
    for label, speeds in (("early", (4.0, 4.1)), ("late", (4.0, 4.1, 4.4))):
        for seed in range(3):
            evaluations = [Evaluation(float(i), forward_speed_mean_mps=speed) for i, speed in enumerate(speeds)]
            plain_run(evaluations, stage="locomotion", seed=seed, sweep=label)
    assert compared(capsys, "early", "late")["tasks"][0]["notes"] == [
        f"late trained longer: its gates passed after {3 * STEPS:,} steps, those of early after {2 * STEPS:,}."
    ]
    assert not compared(capsys, "early", "late", "--metric", "gate_steps")["tasks"][0]["notes"]


def test_groups_by_recipe(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe, seed in itertools.product(("default", "toml"), range(3)):
        plain_run([Evaluation(1.0, success_rate=0.5)], seed=seed, sweep=recipe, tags={"recipe": recipe, "job": recipe})
    found = compared(capsys, "species=trex", "--by", "recipe")["tasks"][0]
    assert [group["label"] for group in found["groups"]] == ["default", "toml"]
    assert compared(capsys, "recipe=toml")["tasks"][0]["groups"][0]["seeds"] == [0, 1, 2]


def test_task_of_one_group(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "slow", "fast species=trex")
    assert [task["species"] for task in found["tasks"]] == ["trex", "trex"] and found["overall"] == []
    assert found["remarks"] == ["velociraptor locomotion: only slow has runs; not compared."]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["slow", "--by", "ppo.learnng_rate"],
            "--by ppo.learnng_rate: runs have no such key; the nearest is ppo.learning_rate. Here nothing but the seed "
            "varies",
        ),
        (
            ["slow stage=balance", "algorithms"],
            "the groups have no task in common, and only runs of the same species and stage can be compared (slow "
            "stage=balance: trex balance; algorithms: trex bite)",
        ),
        (
            ["species=trex", "stage=bite"],
            "species=trex stage=bite: each argument is a group of its own. For runs that meet all conditions type "
            "quotes: 'species=trex stage=bite'",
        ),
        (["two", "two"], "two is there twice, but a group cannot be compared with itself"),
        (
            ["two", "sweep=two seed=0"],
            "trex-ppo-s0/3-bite is in both groups, two and sweep=two seed=0. Narrow the selections",
        ),
        (
            ["two", "algorithms", "--metric", "return_mean"],
            "return_mean: returns cannot be compared, for the runs differ in env.alive_bonus. Type a metric of "
            "behavior, e.g. --metric fall_rate",
        ),
        (
            ["two", "lacking", "--metric", "gate_steps"],
            "gate_steps: steps to different gates cannot be compared, for the runs differ in "
            "curriculum.max_fall_rate. Type a metric of behavior, e.g. --metric fall_rate",
        ),
    ],
)
def test_refused(here: None, capsys: pytest.CaptureFixture[str], typed: list[str], said: str) -> None:
    assert word("compare", *typed) == 1
    assert capsys.readouterr() == ("", f"dinorl compare: {said}\n")


def test_unknown_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert word("compare", "slow", "--metric", "succes_rate") == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "dinorl compare: succes_rate: there is no such metric; the nearest is success_rate; expected one of return_mean"
    )
    assert word("compare", "slow", "--metric", "episodes") == 1
    assert "episodes: neither more nor less of it is better" in capsys.readouterr().err


def test_markdown(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert word("compare", "slow species=trex stage=locomotion", "fast species=trex stage=locomotion",
                "--format", "markdown") == 0  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("### trex locomotion: forward_speed_mean_mps, more is better; interquartile mean")
    assert lines[2] == ("| group | seeds | forward speed, m/s | 95 % interval | gate passed | at steps | minutes |")
    assert lines[5] == "| fast | 4 (0, 1, 2, 3) | 2.05 | 1.90 … 2.50 | 4 of 4 | 250,000 | 2.0 |"
    assert lines[7].startswith("* fast is better than slow: ")
    assert lines[8] == "* The groups differ in ppo.learning_rate (slow: 0.0001; fast: 0.001)."


def test_figure_has_axes_a_task(here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "curves.png"
    assert word("compare", "slow species=trex", "fast species=trex", "--figure", file, "--metric", "gate_steps") == 0
    assert f"wrote {file}" in capsys.readouterr().err
    height, width, _ = matplotlib.image.imread(file).shape
    assert width == pytest.approx(2 * 1.4 * height, abs=3), "balance and locomotion"


def test_early_end_keeps_the_last_value() -> None:
    short, long = Curve(np.array([10, 20]), np.array([0.0, 1.0])), Curve(np.array([0, 40]), np.array([0.0, 4.0]))
    steps, values = common_steps([short, long])
    assert (steps[0], steps[-1]) == (10, 40), "from the first step that all have"
    assert values[0, -1] == 1.0 and values[1] == pytest.approx(steps / 10)
