"""The zoo's claims, measured again on seeds that nothing else uses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import zoo as names
from dinorl.bundle.player import load_player
from dinorl.evaluation.evaluator import Evaluator
from dinorl.reports import zoo

EPISODES, SEED = 32, 700_000
SHIPPED = {name: Bundle(folder) for name, folder in names().items()}
MOVING = sorted(name for name, bundle in SHIPPED.items() if bundle.meta["stage"] == "locomotion")
ACTING = sorted(name for name, bundle in SHIPPED.items() if bundle.meta["stage"] == "behavior")
LEFT, RIGHT = "env.first_target_bearing_range=[1.57,1.57]", "env.first_target_bearing_range=[-1.57,-1.57]"


def evaluate(name: str, *overrides: str) -> dict[str, float]:
    bundle = SHIPPED[name]
    return Evaluator(bundle.config_with(overrides), EPISODES, SEED).run(load_player(bundle))


def lower(rate: float) -> float:
    """Return the lower end of the rate's 99 % interval."""
    return float(binomtest(round(rate * EPISODES), EPISODES).proportion_ci(0.99).low)


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
def test_event_any_bearing(name: str) -> None:
    ahead = evaluate(name, "env.first_target_bearing_range=[0,0]")["success_rate"]
    for side in (LEFT, RIGHT):
        assert evaluate(name, side)["success_rate"] >= lower(ahead), side


@pytest.mark.parametrize("name", MOVING)
def test_locomotion_any_bearing(name: str) -> None:
    """Over whole episodes with the turn, where it may fall or miss its target."""
    gate = SHIPPED[name].config.curriculum
    assert gate.min_avg_forward_vel is not None
    upright = 1.0 - evaluate(name, "env.first_target_bearing_range=[0,0]")["fall_rate"]
    for side in (LEFT, RIGHT):
        found = evaluate(name, side)
        assert found["forward_speed_mean_mps"] >= gate.min_avg_forward_vel, side
        assert found["approach_speed_mean_mps"] >= (gate.min_avg_approach_vel or 0.0), side
        assert 1.0 - found["fall_rate"] >= lower(upright), side


@pytest.mark.parametrize("name", MOVING)
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
