"""Metrics on hand-made trajectories with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dinorl.config import compose
from dinorl.envs.batch import BatchEnv
from dinorl.evaluation.evaluator import Evaluator
from dinorl.evaluation.metrics import Recorder, clopper_pearson_lower
from dinorl.tasks.signals import Signals, rows

DT = 0.02


@pytest.fixture(scope="module")
def one() -> Signals:
    env = BatchEnv(compose(["species=trex", "stage=balance", "env.push_speed=0"]), 1)
    env.reset()
    env.step(np.zeros((1, env.action_space.shape[0])))
    return rows(env.signals, np.array([0]))


def record(one: Signals, course: list[tuple[bool, bool]], speed: float = 2.0) -> dict[str, float]:
    """Return the metrics of one episode with the given (left, right) contacts at a constant speed."""
    recorder = Recorder(1, DT, ((0, 1),), 2, mass=85.0)
    airborne = np.zeros((1, 2), dtype=int)
    for pair in course:
        contact = np.array([pair])
        s = replace(
            one, contact=contact, stance=contact.astype(float), touchdown=contact & (airborne >= 2),
            velocity_h=np.array([[speed, 0.0, 0.0]]), power=np.array([1000.0]), pitch=np.array([np.radians(3.0)]),
            roll=np.array([np.radians(-2.0)]), foot_speed=np.full((1, 2), 0.1),
        )  # fmt: skip
        airborne = np.where(contact, 0, airborne + 1)
        recorder.add(s, np.ones(1), np.zeros(1, bool), np.zeros(1, bool), np.ones(1, bool))
    return recorder.metrics()


def test_a_walk_of_known_strides(one: Signals) -> None:
    # a stride of 40 control steps (0.8 s): each foot down for 24 of them
    course = [((k % 40) < 24, ((k + 20) % 40) < 24) for k in range(400)]
    metrics = record(one, course)
    assert metrics["gait.duty_factor"] == pytest.approx(0.6)
    assert metrics["gait.flight_fraction"] == 0.0
    assert metrics["gait.alternation"] == 1.0
    assert metrics["gait.stride_hz"] == pytest.approx(1.25, abs=0.1)
    assert metrics["gait.foot_slip_mps"] == pytest.approx(0.1)
    assert metrics["forward_speed_mean_mps"] == pytest.approx(2.0)
    assert metrics["distance_mean_m"] == pytest.approx(16.0)
    assert metrics["trunk.pitch_deg"] == pytest.approx(3.0) and metrics["trunk.roll_deg"] == pytest.approx(2.0)
    # 1 kW over 8 s, 16 m, 85 kg
    assert metrics["cost_of_transport"] == pytest.approx(8000.0 / (85.0 * 9.81 * 16.0))


def test_a_hop_does_not_alternate_and_flies(one: Signals) -> None:
    metrics = record(one, [((k % 20) < 10, (k % 20) < 10) for k in range(400)])
    assert metrics["gait.alternation"] == 0.0 and metrics["gait.flight_fraction"] == pytest.approx(0.5)


def test_a_statue_has_no_gait(one: Signals) -> None:
    metrics = record(one, [(True, True)] * 100, speed=0.0)
    assert metrics["gait.alternation"] == 0.0 and metrics["gait.stride_hz"] == 0.0
    assert np.isnan(metrics["cost_of_transport"])


@pytest.mark.parametrize("k, n, expected", [(0, 32, 0.0), (32, 32, 0.05 ** (1 / 32)), (200, 200, 0.05 ** (1 / 200))])
def test_the_interval_is_clopper_pearsons(k: int, n: int, expected: float) -> None:
    assert clopper_pearson_lower(k, n) == pytest.approx(expected)


def test_an_evaluation_can_be_had_again_and_counts_first_episodes_alone() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.max_episode_steps=80"])
    evaluator = Evaluator(cfg, episodes=8)
    size = evaluator.batch.action_space.shape[0]
    policy = lambda seen: np.tanh(seen[:, :size])  # noqa: E731
    first, second = evaluator.run(policy), evaluator.run(policy)
    assert {k: v for k, v in first.items() if v == v} == {k: v for k, v in second.items() if v == v}
    assert first["episodes"] == 8 and first["length_mean"] <= 80
    shares = sum(value for key, value in first.items() if key.startswith("reward."))
    assert shares == pytest.approx(first["return_mean"], rel=1e-6)


def test_null_policies_are_played_on_the_same_seeds() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.push_speed=0.0", "env.max_episode_steps=60"])
    nulls = Evaluator(cfg, episodes=8).null_policies()
    assert nulls["zero"]["length_mean"] == 60 and nulls["zero"]["fall_rate"] == 0.0
    assert nulls["random"]["return_mean"] < nulls["zero"]["return_mean"]
