"""Searches: the space, prunings that survive kills, several seeds, importance. Starts no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from small import small

from dinorl.config import ConfigError, SearchConfig, compose
from dinorl.config.overrides import Setting, read_settings
from dinorl.config.tree import search_values
from dinorl.files.run_folder import SearchFiles
from dinorl.search.importance import importance
from dinorl.search.journal import Entry, Journal, Memory, Report
from dinorl.search.judge import Judge
from dinorl.search.score import WORST, check_metric, score, together
from dinorl.search.space import Space
from dinorl.search.stages import SeedRun, advance_together, steps_together
from dinorl.search.trials import Trials, make_trials
from dinorl.tracking.listener import Listener
from dinorl.training.stage import run_stage

DEFAULTS = SearchConfig.of(search_values())
LOG = "ppo.learning_rate=tag(log,interval(1e-4,1e-2))"


def settings(*overrides: str) -> tuple[list[Setting], list[str]]:
    return read_settings(OverridesParser.create().parse_overrides(list(overrides)), search=True)


def space(*overrides: str) -> Space:
    return Space.of(settings(*overrides)[0])


def trials(*overrides: str, seeds: int = 1) -> Trials:
    typed, stages = settings(*overrides)
    options = replace(DEFAULTS, samples=4, seeds=seeds)
    found = Space.of(typed)
    return make_trials(found, typed, stages, options, found.draw(options), compose)


# The space -----------------------------------------------------------------------------------------------------------


def test_draws_fill_log_interval() -> None:
    drawn = [float(v["ppo.learning_rate"]) for v in space(LOG).draw(replace(DEFAULTS, samples=400))]
    assert 1e-4 <= min(drawn) < 1.2e-4 and 0.8e-2 < max(drawn) <= 1e-2
    assert 0.4 < np.mean(np.array(drawn) < 1e-3) < 0.6, "not uniform in the logarithm"


@pytest.mark.parametrize("typed", ["tag(int,interval(2,4))", "int(interval(2,4))", "tag(log,int,interval(2,4))"])
def test_int_interval_has_ends(typed: str) -> None:
    assert {v["ppo.n_epochs"] for v in space(f"ppo.n_epochs={typed}", LOG).draw(replace(DEFAULTS, samples=60))} == {
        "2", "3", "4",
    }  # fmt: skip


def test_more_samples_only_add() -> None:
    both = space(LOG, "ppo.gamma=0.9,0.95,0.99")
    few, many = (both.draw(replace(DEFAULTS, samples=n)) for n in (5, 9))
    assert many[:5] == few and len(many) == 9
    assert both.draw(replace(DEFAULTS, samples=5, seed=1)) != few


def test_small_space_drawn_once() -> None:
    drawn = space("ppo.gamma=0.9,0.99", "ppo.n_epochs=range(2,5)").draw(replace(DEFAULTS, samples=30))
    assert len(drawn) == len({tuple(v.values()) for v in drawn}) == 6


def test_grid_has_every_combination() -> None:
    grid = replace(DEFAULTS, algorithm="grid", samples=1)
    assert len(space("ppo.gamma=0.9,0.99", "ppo.n_epochs=2,3,4").draw(grid)) == 6
    with pytest.raises(ConfigError, match=r"ppo\.learning_rate: a grid needs values that can be counted"):
        space(LOG).draw(grid)


@pytest.mark.parametrize("key", [
    "species=trex,velociraptor", "seed=0,1", "eval.every=100,200", "curriculum.timesteps=100,200", "sim.threads=1,2",
])  # fmt: skip
def test_shared_keys_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="cannot be searched"):
        space(key)


@pytest.mark.parametrize("typed, problem", [
    ("tag(lag,interval(1,2))", "there is no tag lag"),
    ("interval(2,1)", "the interval is empty"),
    ("tag(log,interval(0,1))", "has no logarithm"),
    ("tag(int,interval(0.5,3))", "expected whole ends"),
])  # fmt: skip
def test_wrong_intervals_are_explained(typed: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        space(f"ppo.gamma={typed}")


@pytest.mark.parametrize("key", ["algo=ppo,sac", "ppo.policy_kwargs.net_arch=[64],[32]"])
def test_warm_start_fixes_keys(key: str) -> None:
    typed, stages = settings("stage=locomotion", "warm_start=trex/balance", key)
    found = Space.of(typed)
    first = [{axis.key: axis.choices[0] for axis in found.axes}]
    own = make_trials(found, typed, stages, DEFAULTS, first, compose)
    with pytest.raises(ConfigError, match=r"trex/balance\) fixes it, so it cannot be searched"):
        found.check_warm_start(own.own(own.each[0])[0])


def test_earlier_stages_trained_once() -> None:
    made = trials("2.ppo.gamma=0.9,0.95,0.98", "2.ppo.n_epochs=3,4", seeds=2)
    assert [job.config.seed for job in made.shared().jobs] == [0, 1] and len(made.each) == 4
    assert {job.stage for job in made.shared().jobs} == {"balance"}
    assert [job.stage for job in made.own(made.each[0])] == ["locomotion", "behavior"] * 2
    assert made.budgets == [job.config.curriculum.timesteps for job in made.own(made.each[0])[:2]]
    assert len({job.folder for trial in made.each for job in made.own(trial)}) == 16


def test_useless_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="are the same training"):
        trials("stage=balance", "env.alive_bonus=1,1.0")


# Decisions -----------------------------------------------------------------------------------------------------------

BUDGET, GRACE = 900, 100
OPTIONS = replace(DEFAULTS, reduction=3.0)


def judge(folder: Path, scheduler: str = "asha") -> Judge:
    return Judge(replace(OPTIONS, scheduler=scheduler), GRACE, BUDGET, Journal(folder))  # type: ignore[arg-type]


def report(trial: int, steps: int, value: float, passed: bool = False) -> Report:
    return Report(trial, steps, (value,), value, steps, passed, passed or steps >= BUDGET)


def curve(trial: int) -> list[Report]:
    """Return a trial's reports; some pass early."""
    random = np.random.default_rng(trial)
    end = 400 if trial % 5 == 4 else BUDGET + 40
    steps = [*range(120, end, 60), end]
    scores = random.normal() + 0.3 * random.normal(size=len(steps)).cumsum()
    return [
        report(trial, s, float(v), passed=s == end < BUDGET) for s, v in zip(steps, scores, strict=True)
    ]  # fmt: skip


def run_one_worker(folder: Path, scheduler: str, cuts: Sequence[int] = (), count: int = 14) -> list[Entry]:
    """Run fake trials one after another; at each cut, forget everything but the journal's file."""
    deciding, heard, left = judge(folder, scheduler), 0, list(cuts)
    for trial in range(count):
        for given in curve(trial):
            decision, _ = deciding.decide(given)
            heard += 1
            if left and heard >= left[0]:
                left.pop(0)
                deciding = judge(folder, scheduler)
                assert deciding.decide(given) == (decision, False), "a known evaluation was decided again"
            if decision != "continue":
                break
    return Journal(folder).entries


def test_asha_prunes_at_rungs(tmp_path: Path) -> None:
    deciding = judge(tmp_path)
    assert [deciding.decide(report(0, steps, 1.0))[0] for steps in (90, 110, 350)] == ["continue"] * 3
    assert deciding.decide(report(1, 90, 0.0))[0] == "continue", "pruned before its first rung"
    assert deciding.decide(report(1, 110, 0.0))[0] == "prune"
    assert [deciding.decide(report(2, steps, 2.0))[0] for steps in (110, 350)] == ["continue"] * 2
    assert deciding.decide(report(2, 350, -9.0)) == ("continue", False)
    assert deciding.decide(report(2, BUDGET + 5, -9.0))[0] == "end", "pruned at its very end"


def test_early_pass_counts_later(tmp_path: Path) -> None:
    deciding = judge(tmp_path)
    assert deciding.decide(report(0, 150, 5.0, passed=True))[0] == "end"
    assert deciding.decide(report(1, 110, 6.0))[0] == "continue"
    assert deciding.decide(report(1, 310, 4.0))[0] == "prune", "the rung after the early pass has no score of it"


def test_no_scheduler_prunes_nothing(tmp_path: Path) -> None:
    entries = run_one_worker(tmp_path, "none", count=4)
    assert {entry.decision for entry in entries} == {"continue", "end"}
    assert sum(entry.decision == "end" for entry in entries) == 4


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_killed_search_prunes_alike(scheduler: str, tmp_path: Path) -> None:
    whole = run_one_worker(_made(tmp_path / "whole"), scheduler)
    assert {entry.decision for entry in whole} == {"continue", "prune", "end"}
    random = np.random.default_rng(0)
    for i in range(12):
        cuts = sorted(random.choice(len(whole) - 1, size=2, replace=False) + 1)
        assert run_one_worker(_made(tmp_path / str(i)), scheduler, cuts) == whole, cuts


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_forgotten_rungs_would_matter(scheduler: str, tmp_path: Path) -> None:
    """The test above can fail: without the journal, the same trials meet other decisions."""
    whole = run_one_worker(_made(tmp_path / "whole"), scheduler)
    later = [entry for entry in whole if entry.report.trial >= 7]
    fresh = judge(_made(tmp_path / "fresh"), scheduler)
    assert [fresh.decide(entry.report)[0] for entry in later] != [entry.decision for entry in later]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_journal_survives_torn_line(tmp_path: Path) -> None:
    judge(tmp_path).decide(report(0, 90, 1.25))
    path = SearchFiles(tmp_path).journal
    path.write_text(path.read_text() + '{"trial": 1, "st')
    assert Journal(tmp_path).entries == [Entry(report(0, 90, 1.25), "continue")]
    judge(tmp_path).decide(report(1, 90, 2.0))
    assert [entry.report.trial for entry in Journal(tmp_path).entries] == [0, 1]


def test_failed_trial_may_retry(tmp_path: Path) -> None:
    deciding = judge(tmp_path)
    deciding.decide(report(0, 90, 1.0))
    assert deciding.decide(Report(0, 90, failed="lost")) == ("end", True)
    assert judge(tmp_path).decide(report(0, 110, 1.0)) == ("continue", True)


def test_other_search_is_refused(tmp_path: Path) -> None:
    memory, same, values = Memory(tmp_path), {"ppo.gamma": "0.9, 0.99"}, [{"ppo.gamma": "0.9"}]
    memory.check(asdict(DEFAULTS), same, values)
    memory.write(asdict(DEFAULTS), same, values)
    memory.check(asdict(replace(DEFAULTS, samples=2, jobs=1)), same, [*values, {"ppo.gamma": "0.99"}])
    with pytest.raises(ConfigError, match=r"search\.reduction was 3.*, is 4.*Type another sweep\.name"):
        memory.check(asdict(replace(DEFAULTS, reduction=4.0)), same, values)
    with pytest.raises(ConfigError, match=r"ppo\.gamma was 0\.9, 0\.99, is 0\.9"):
        memory.check(asdict(DEFAULTS), {"ppo.gamma": "0.9"}, values)
    with pytest.raises(ConfigError, match="now fewer or others"):
        memory.check(asdict(DEFAULTS), same, [])


# Scores, seeds, importance -------------------------------------------------------------------------------------------


def test_score_is_careful() -> None:
    metrics = {"return_mean": 10.0, "return_std": 3.0, "fall_rate": 0.25, "forward_speed_mean_mps": float("nan")}
    assert score(metrics, "return") == 7.0 and score(metrics, "fall_rate") == -0.25
    assert score(metrics, "forward_speed_mean_mps") == WORST
    assert together([4.0]) == 4.0 and together([1.0, 3.0]) == pytest.approx(2.0 - 2.0**0.5)
    for name in ("speed", "episodes"):
        with pytest.raises(ConfigError, match="there is no such search.metric"):
            check_metric(name)


class FakeSeed(SimpleNamespace):
    """A seed whose evaluations are at given steps; it is over after the last."""

    def advance(self) -> None:
        self.steps = self.left.pop(0)
        self.finished = not self.left


def test_seeds_wait_for_each_other() -> None:
    ahead, behind, early = (
        FakeSeed(left=left, steps=0, finished=False) for left in ([20, 30], [10, 20, 30], [20])
    )  # fmt: skip
    common = []
    for _ in range(3):
        advance_together([ahead, behind, early])  # type: ignore[list-item]
        common.append((steps_together([ahead, behind, early]), ahead.steps))  # type: ignore[list-item]
    assert common == [(10, 20), (20, 20), (30, 30)]


def test_finished_stage_is_read(tmp_path: Path) -> None:
    """A stage that is over is not trained again; one that passed early takes its whole budget."""
    folder = tmp_path / "1-balance"
    folder.mkdir()
    (folder / "status.json").write_text('{"status": "DONE", "gate": "passed"}')
    (folder / "eval.csv").write_text("timesteps,policy,gate,return_mean\n50,zero,0/1,1\n50,policy,1/1,2.5\n")
    hydra = SimpleNamespace(sweep=SimpleNamespace(dir=str(tmp_path), subdir="1-balance"))
    config: Any = SimpleNamespace(hydra=hydra, curriculum=SimpleNamespace(timesteps=100))
    seed = SeedRun([config, config])
    seed.advance()
    assert (seed.steps, seed.trained, seed.finished, seed.metrics["return_mean"]) == (100, 50, False, 2.5)
    seed.advance()
    assert (seed.steps, seed.trained, seed.finished, seed.passed) == (150, 100, True, True)


class Killed(Listener):
    """Is killed with the stage at an evaluation, before its answer; afterwards answers that the stage stops."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, float]] = []

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> bool:
        self.heard.append((step, metrics["return_mean"]))
        if len(self.heard) == 2:
            raise KeyboardInterrupt
        return len(self.heard) > 2


def test_lost_evaluation_comes_again(tmp_path: Path) -> None:
    """Its bundle is written before the answer; a resumed stage must not train past it."""
    listener, cfg = Killed(), small("stage=balance", "eval.every=256", "curriculum.min_avg_reward=1e9")
    with pytest.raises(KeyboardInterrupt):
        run_stage(cfg, tmp_path, [listener])
    result = run_stage(cfg, tmp_path, [listener])
    assert listener.heard[1] == listener.heard[2] and len(listener.heard) == 3
    assert (result.gate, result.timesteps) == ("stopped_by_listener", 512)


def test_importance_finds_key() -> None:
    found = space(LOG, "ppo.gamma=interval(0.9,0.99)", "ppo.n_epochs=2,3,4")
    values = found.draw(replace(DEFAULTS, samples=30))
    noise = np.random.default_rng(1).normal(size=30)
    scores = [-abs(np.log(float(v["ppo.learning_rate"]) / 1e-3)) + 0.1 * e for v, e in zip(values, noise, strict=True)]
    first, *others = importance(found.axes, values, scores) or []
    assert first.key == "ppo.learning_rate" and first.clear and first.low < first.mean < first.high
    assert all(one.mean < 0.2 * first.mean and not one.clear for one in others)
    assert importance(found.axes, values[:8], scores[:8]) is None, "eight trials prove nothing"
