"""The zoo's claims, measured again on seeds that nothing else uses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.stats import binomtest

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import zoo as names
from dinorl.bundle.player import load_player
from dinorl.envs.batch import BatchEnv
from dinorl.evaluation import evaluator
from dinorl.evaluation.evaluator import Evaluator
from dinorl.evaluation.metrics import measure
from dinorl.evaluation.recorder import Recorder
from dinorl.reports import zoo

EPISODES, SEED = 32, 700_000
SHIPPED = {name: Bundle(folder) for name, folder in names().items()}
MOVING = sorted(name for name, bundle in SHIPPED.items() if bundle.meta["stage"] == "locomotion")
ACTING = sorted(name for name, bundle in SHIPPED.items() if bundle.meta["stage"] == "behavior")
# ``make torture`` has the second policy of each animal.
RUNS = [pytest.param(name, marks=pytest.mark.long) if name.endswith("-sac") else name for name in MOVING]
BEARINGS = {"left": 1.57, "right": -1.57}  # rad, of the first target


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, dict[str, float]]]:
    """Evaluates at each bearing, on the same seeds: all in one batch, which is faster."""
    groups = np.split(np.arange(len(BEARINGS) * EPISODES), len(BEARINGS))

    def seed(batch: BatchEnv, first: int) -> None:
        for k, ids in enumerate(groups):
            BatchEnv.seed(batch, first - k * EPISODES, ids)

    def run(name: str) -> dict[str, dict[str, float]]:
        cfg = SHIPPED[name].config_with(["env.first_target_bearing_range=[1,1]"])
        together = Evaluator(cfg, len(BEARINGS) * EPISODES, SEED)
        together.batch.bearing_scale = np.repeat(list(BEARINGS.values()), EPISODES)
        monkeypatch.setattr(together.batch, "seed", partial(seed, together.batch))
        recorders: list[Recorder] = []
        monkeypatch.setattr(evaluator, "measure", lambda recorder: recorders.append(recorder) or {})
        together.run(load_player(SHIPPED[name]))
        return {side: measure(part(recorders[0], ids)) for side, ids in zip(BEARINGS, groups, strict=True)}

    return run


def part(recorder: Recorder, ids: np.ndarray) -> Recorder:
    """Return the records of some animals."""
    some = copy.copy(recorder)
    for name, value in vars(recorder).items():
        if isinstance(value, np.ndarray):
            setattr(some, name, value[ids])
        elif isinstance(value, list):  # (n, …) a step
            setattr(some, name, [step[ids] for step in value])
    some.n = ids.size
    return some


def lower(rate: float) -> float:
    """Return the lower end of the 99 % interval of a rate that the card claims."""
    return float(binomtest(math.ceil(rate * EPISODES), EPISODES).proportion_ci(0.99).low)


def test_zoo_has_all_stages() -> None:
    assert sorted(SHIPPED) == [
        "brachiosaurus/balance", "brachiosaurus/food_reach", "brachiosaurus/locomotion",
        "trex/balance", "trex/balance-sac", "trex/bite", "trex/bite-sac", "trex/locomotion", "trex/locomotion-sac",
        "velociraptor/balance", "velociraptor/balance-sac", "velociraptor/locomotion", "velociraptor/locomotion-sac",
        "velociraptor/strike", "velociraptor/strike-sac",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_card_matches_current_model(name: str) -> None:
    bundle, about = SHIPPED[name], zoo.card(SHIPPED[name].path)
    assert bundle.outdated() is None
    assert about["evaluation"]["episodes"] == 200 and {"zero", "random"} == set(about["evaluation"]["null"])
    assert about["gate"] == "passed" and about["git_sha"] and about["stage_seconds"] > 0
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) < zoo.LARGEST


@pytest.mark.parametrize("name", MOVING + ACTING)
def test_null_policies_earn_nothing(name: str) -> None:
    """Regression: a strike's recipe paid more for standing than for the strike."""
    nulls = zoo.card(SHIPPED[name].path)["evaluation"]["null"]
    assert all(null["return_mean"] < 0.0 for null in nulls.values())


@pytest.mark.parametrize("name", ACTING)
def test_event_any_bearing(name: str, evaluate: Callable[[str], dict[str, dict[str, float]]]) -> None:
    claimed = zoo.card(SHIPPED[name].path)["evaluation"]["success_rate"]
    for side, found in evaluate(name).items():
        assert found["success_rate"] >= lower(claimed), side


@pytest.mark.parametrize("name", RUNS)
def test_locomotion_any_bearing(name: str, evaluate: Callable[[str], dict[str, dict[str, float]]]) -> None:
    """Over whole episodes with the turn, where it may fall or miss its target."""
    gate = SHIPPED[name].config.curriculum
    assert gate.min_avg_forward_vel is not None
    upright = 1.0 - zoo.card(SHIPPED[name].path)["evaluation"]["fall_rate"]
    for side, found in evaluate(name).items():
        assert found["forward_speed_mean_mps"] >= gate.min_avg_forward_vel, side
        assert found["approach_speed_mean_mps"] >= (gate.min_avg_approach_vel or 0.0), side
        assert 1.0 - found["fall_rate"] >= lower(upright), side


@pytest.mark.parametrize("name", RUNS)
def test_locomotion_any_initial_heading(name: str) -> None:
    """The world heading, drawn from the whole circle, does not change the speed over five seconds."""
    bundle = SHIPPED[name]
    policy, batch = load_player(bundle), Evaluator(bundle.config, 4 * EPISODES).batch
    batch.seed(SEED)
    observation = batch.reset()
    quarter = np.floor((2.0 * np.arctan2(batch.sim.qpos[:, 6], batch.sim.qpos[:, 3]) % (2 * np.pi)) / (np.pi / 2))
    speed = np.zeros(batch.n)
    steps = 250
    for _ in range(steps):
        observation = batch.step(policy(observation)).observation
        speed += batch.signals.velocity_h[:, 0] / steps
    for k in range(4):
        group = speed[quarter == k]
        error = np.sqrt(group.var() / group.size + speed.var() / speed.size)
        assert abs(group.mean() - speed.mean()) < 4.0 * error, (k, group.mean(), speed.mean())
