"""Population based training: who takes over whom, through kills and failures; a bundle that is taken over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from small import small

from dinorl.config import Config, ConfigError, SearchConfig
from dinorl.config.overrides import read_settings
from dinorl.config.strict import to_container
from dinorl.config.tree import search_values
from dinorl.files.run_folder import BundleFolder, RunFolder
from dinorl.search.journal import END, Exchange, Journal, Report, Takeover
from dinorl.search.judge import Judge
from dinorl.search.population import Population, check_population, explore, schedule
from dinorl.search.space import Axis, Space
from dinorl.tracking.listener import Listener
from dinorl.training import resume
from dinorl.training.interrupt import Interrupted, Interruption
from dinorl.training.stage import run_stage

LR = "ppo.learning_rate"
OPTIONS = replace(SearchConfig.of(search_values()), scheduler="pbt", interval=200, samples=8)
EVERY, BUDGET = 100, 1000


def axes(*typed: str) -> tuple[Axis, ...]:
    return Space.of(read_settings(OverridesParser.create().parse_overrides(list(typed)), search=True)[0]).axes


SPACE = axes(f"{LR}=tag(log,interval(1e-5,1e-1))", "ppo.gamma=0.9,0.95,0.99")
INITIAL = Space(SPACE).draw(OPTIONS)


# Values --------------------------------------------------------------------------------------------------------------


def explored(typed: str, value: str) -> set[str]:
    return {explore(axes(typed)[0], value, np.random.default_rng(i)) for i in range(60)}


def test_number_moves_by_factors() -> None:
    axis, near = axes(f"{LR}=tag(log,interval(1e-5,1e-1))")[0], {"0.0008", "0.0012"}
    drawn = [explore(axis, "0.001", np.random.default_rng(i)) for i in range(200)]
    assert near < set(drawn) and 0.6 < np.mean([value in near for value in drawn]) < 0.9, "not resampled at times"
    assert all(1e-5 <= float(value) <= 1e-1 for value in drawn)


def test_end_of_interval_is_left() -> None:
    assert explore(axes("ppo.gamma=interval(0.9,0.99)")[0], "0.99", np.random.default_rng(0)) != "0.99"
    assert explored("ppo.n_epochs=int(interval(1,3))", "2") == {"1", "2", "3"}, "small whole numbers stay for ever"


def test_choice_moves_to_neighbour() -> None:
    near = [explore(axes("ppo.n_epochs=1,2,3,4,5")[0], "1", np.random.default_rng(i)) for i in range(200)]
    assert np.mean([value == "2" for value in near]) > 0.7
    assert explored("ppo.lr_schedule=linear,cosine", "linear") == {"linear", "cosine"}


# Exchanges -----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """The search was killed."""


class World:
    """Fake stages: the better a member's values, the faster its skill grows. Bundles survive kills."""

    def __init__(self) -> None:
        self.bundles: dict[int, tuple[int, float]] = {}  # steps, skill
        self.left = math.inf  # things that happen before the next kill
        self.broken: set[int] = set()  # members that fail

    def happens(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def take_over(self, one: Takeover) -> None:
        self.happens()
        self.bundles[one.trial] = self.bundles[one.source]
        self.broken.discard(one.trial)

    def train(self, trial: int, rate: float) -> None:
        steps, skill = self.bundles.get(trial, (0, 0.0))
        self.bundles[trial] = (steps + EVERY, skill - abs(math.log(rate / 1e-3)))
        self.happens()

    def report(self, trial: int) -> Report:
        steps, skill = self.bundles[trial]
        return Report(trial, steps, (skill,), skill, steps, finished=steps >= BUDGET)


def search(folder: Path, world: World, options: SearchConfig = OPTIONS) -> Journal:
    """Train a population with one worker, resuming what is there."""
    folder.mkdir(exist_ok=True)
    journal = Journal(folder)
    judge = Judge(options, 1, BUDGET, journal)
    population = Population(SPACE, INITIAL, options, 1, BUDGET, journal)
    for trial in population.rounds(world.take_over):
        assert trial is not None, "waits for nobody"
        if trial in world.broken:
            judge.decide(Report(trial, 0, failed="diverged"))
            continue
        if trial not in world.bundles:
            world.train(trial, float(population.values(trial)[LR]))
        # a resumed stage reports its last evaluation again
        while judge.decide(given := world.report(trial))[0] != END and not population.pauses(given):
            world.train(trial, float(population.values(trial)[LR]))
    return journal


def distances(journal: Journal) -> list[float]:
    last = [schedule(INITIAL, journal.exchanges, trial)[-1].values for trial in range(len(INITIAL))]
    return [abs(math.log(float(values[LR]) / 1e-3)) for values in last]


def test_good_members_are_copied(tmp_path: Path) -> None:
    world = World()
    journal = search(tmp_path, world)
    assert [exchange.steps for exchange in journal.exchanges] == [200, 400, 600, 800]
    assert [len(exchange.takeovers) for exchange in journal.exchanges] == [2] * 4, "not a quarter of eight"
    first = journal.exchanges[0].takeovers
    worst, best = {one.trial for one in first}, {one.source for one in first}
    scores = {e.report.trial: e.report.score for e in journal.entries if e.report.steps == 200}
    order = sorted(scores, key=scores.__getitem__)
    assert worst == set(order[:2]) and best <= set(order[-2:])
    before = [abs(math.log(float(values[LR]) / 1e-3)) for values in INITIAL]
    assert np.mean(distances(journal)) < 0.7 * np.mean(before)
    assert {steps for steps, _ in world.bundles.values()} == {BUDGET}


def test_killed_population_is_equal(tmp_path: Path) -> None:
    """Killed between any two things, also when only one of two bundles is in its place."""
    whole, world = search(tmp_path / "whole", World()), World()
    total = 8 * BUDGET // EVERY + sum(len(exchange.takeovers) for exchange in whole.exchanges)
    for cut in [*range(1, total, 7), 8 * 2 + 1]:
        folder, world = tmp_path / str(cut), World()
        for left in (cut, 5, math.inf):
            world.left = left
            try:
                search(folder, world)
            except Killed:
                continue
        assert (folder / whole.path.name).read_text() == whole.path.read_text(), cut


def test_draws_depend_on_seed(tmp_path: Path) -> None:
    one, other = (search(tmp_path / str(seed), World(), replace(OPTIONS, seed=seed)) for seed in (0, 1))
    assert one.exchanges[0].takeovers != other.exchanges[0].takeovers


def test_copies_train_differently(tmp_path: Path) -> None:
    for seed in range(20):
        exchanges = search(tmp_path / str(seed), World(), replace(OPTIONS, seed=seed, quantile=0.5)).exchanges
        first = [(one.source, *one.values.values()) for one in exchanges[0].takeovers]
        first += [(source, *INITIAL[source].values()) for source in {one.source for one in exchanges[0].takeovers}]
        assert len(set(first)) == len(first)


def test_failed_member_takes_over(tmp_path: Path) -> None:
    world = World()
    world.broken = {0, 1, 2}
    journal = search(tmp_path, world)
    assert {0, 1, 2} <= {one.trial for one in journal.exchanges[0].takeovers}
    assert {steps for steps, _ in world.bundles.values()} == {BUDGET} and len(world.bundles) == 8


def test_lost_population_ends(tmp_path: Path) -> None:
    world = World()
    world.broken = set(range(8))
    assert search(tmp_path, world).exchanges == []
    world.broken = set()
    assert len(search(tmp_path, world).exchanges) == 4, "a later command does not retry"


def test_schedule_follows_policy() -> None:
    first = Exchange(10, (Takeover(0, 1, {"a": "2"}),), 0)
    second = Exchange(20, (Takeover(2, 0, {"a": "3"}), Takeover(0, 1, {"a": "4"})), 0)
    changes = schedule([{"a": "0"}, {"a": "1"}, {"a": "5"}], [first, second], 2)
    assert [(one.steps, one.trial, one.values["a"]) for one in changes] == [(0, 1, "1"), (10, 0, "2"), (20, 2, "3")]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed, options, key", [
    ("sim.n_envs=8,16", {}, "sim.n_envs"), ("ppo.n_steps=32,64", {}, "ppo.n_steps"),
    ("ppo.policy_kwargs.net_arch=[64],[32]", {}, "net_arch"), ("sac.learning_rate=1e-3,1e-4", {}, "sac.learning_rate"),
    ("env.reset_noise_scale=0,1", {}, "env.reset_noise_scale"), ("ppo.gamma=0.9,0.99", {"seeds": 2}, "search.seeds"),
    ("ppo.gamma=0.9,0.99", {"algorithm": "optuna"}, "search.algorithm"),
    ("ppo.gamma=0.9,0.99", {"interval": 10}, "search.interval"),
])  # fmt: skip
def test_impossible_population_is_refused(typed: str, options: Mapping[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}.*pbt.*Type "):
        check_population(small(), axes(typed), replace(OPTIONS, **({"interval": 512} | options)), 1)  # type: ignore[arg-type]


def test_live_keys_are_accepted() -> None:
    check_population(small(), axes(f"{LR}=1e-3,1e-4", "env.alive_bonus=1,2", "3.ppo.clip_range=0.1,0.2"),
                     replace(OPTIONS, interval=512), 1)  # fmt: skip
    with pytest.raises(ConfigError, match=r"env\.alive_bonus"):  # old rewards are in its replay buffer
        check_population(small("algo=sac"), axes("env.alive_bonus=1,2"), replace(OPTIONS, interval=512), 1)
    with pytest.raises(ConfigError, match="has 2 stages"):
        check_population(small(), axes("ppo.gamma=0.9,0.99"), replace(OPTIONS, interval=512), 2)


# Bundles -------------------------------------------------------------------------------------------------------------


class Pausing(Listener):
    """Pauses a stage at its first evaluation."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> bool:
        self._interruption.request("paused")
        return False


def member(name: str, *overrides: str) -> Config:
    return small("stage=balance", f"tracking.job={name}", f"tracking.lineage={name}", *overrides)


def final(folder: Path, names: Sequence[str] = ("policy", "normalization", "optimizer")) -> dict[str, np.ndarray]:
    newest = BundleFolder(RunFolder(folder).bundles / "1024")
    return {f"{name}/{key}": value for name in names for key, value in np.load(getattr(newest, name)).items()}


def test_taken_bundle_trains_on(tmp_path: Path) -> None:
    """With the same values, exactly as its source would have; with others, from there."""
    interruption = Interruption()
    with pytest.raises(Interrupted, match="paused at 512 steps"):
        run_stage(member("a"), tmp_path / "a", [Pausing(interruption)], interruption)
    for name, more in (("same", ()), ("other", ("ppo.learning_rate=1e-5", "env.alive_bonus=3"))):
        resume.take_over(tmp_path / name, tmp_path / "a", to_container(member(name))["tracking"])
        run_stage(member(name, *more), tmp_path / name)
    run_stage(member("a"), tmp_path / "a")
    straight, same, other = (final(tmp_path / name) for name in ("a", "same", "other"))
    assert all(np.array_equal(straight[key], same[key]) for key in straight)
    moved = [np.abs(straight[key] - other[key]).max() for key in straight if key.startswith("policy/")]
    assert 0.0 < max(moved) < 0.1
    rows = [(tmp_path / name / "eval.csv").read_text().splitlines()[:4] for name in ("a", "other")]
    assert rows[0] == rows[1] and len(rows[0]) == 4, "not the history of its policy"


def test_other_weights_choose_anew(tmp_path: Path) -> None:
    """A return under other reward weights says nothing about which bundle is the best."""
    interruption = Interruption()
    with pytest.raises(Interrupted):
        run_stage(member("a", "env.alive_bonus=9"), tmp_path / "a", [Pausing(interruption)], interruption)
    resume.take_over(tmp_path / "b", tmp_path / "a", to_container(member("b"))["tracking"])
    result = run_stage(member("b", "env.alive_bonus=0.1"), tmp_path / "b")
    assert result.evaluation["reward.alive_bonus"] < 9.0
