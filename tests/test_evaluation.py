"""Metrics on hand-made trajectories with known answers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from commands import word
from omegaconf import OmegaConf

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.film import film, subtitled
from dinorl.bundle.locate import resolve
from dinorl.config import compose
from dinorl.envs.batch import BatchEnv, Step
from dinorl.evaluation import gait
from dinorl.evaluation.evaluator import Evaluator
from dinorl.evaluation.metrics import METRICS, clopper_pearson_lower, measure
from dinorl.evaluation.recorder import Recorder
from dinorl.reports.evaluation import evaluate
from dinorl.tasks.signals import Signals, rows
from dinorl.training.gate import THRESHOLDS

DT = 0.02  # s
WEIGHT = 800.0  # N


@pytest.fixture(scope="module")
def one() -> Signals:
    env = BatchEnv(compose(["species=trex", "stage=balance", "env.push_speed=0"]), 1)
    env.reset()
    env.step(np.zeros((1, env.action_space.shape[0])))
    return rows(env.signals, np.array([0]))


def record(
    one: Signals, course: list[tuple[bool, bool]], speed: float = 2.0, approach: float = 0.0
) -> dict[str, float]:
    """Return the metrics of one episode with the given (left, right) contacts at a constant speed."""
    recorder = Recorder(1, DT, ((0, 1),), WEIGHT)
    for pair in course:
        contact = np.array([pair])
        s = replace(
            one,
            contact=contact,
            stance=contact.astype(float),
            velocity_h=np.array([[speed, 0.0, 0.0]]),
            approach_speed=np.array([approach]),
            power=np.array([1000.0]),
            pitch=np.array([np.radians(3.0)]),
            roll=np.array([np.radians(-2.0)]),
            foot_speed=np.full((1, 2), 0.1),
        )
        recorder.add(s, np.ones(1), np.zeros(1, bool), np.zeros(1, bool), np.ones(1, bool))
    return measure(recorder)


def test_walk_metrics_known_values(one: Signals) -> None:
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
    # 1 kW over 8 s and 16 m
    assert metrics["cost_of_transport"] == pytest.approx(8000.0 / (WEIGHT * 16.0))


def test_overshoot_has_negative_approach_speed(one: Signals) -> None:
    metrics = record(one, [(True, True)] * 50, speed=4.0, approach=-1.5)
    assert metrics["forward_speed_mean_mps"] == pytest.approx(4.0)
    assert metrics["approach_speed_mean_mps"] == pytest.approx(-1.5)


def test_approach_speed_ignores_target_respawn() -> None:
    env = BatchEnv(compose(["species=trex", "stage=locomotion"]), 1)
    env.reset()
    env.sim.target[0, :2] = env.sim.qpos[0, :2]  # it is there
    env.sim.refresh(np.array([0]))
    still = np.zeros((1, env.action_space.shape[0]))
    env.step(still)
    assert env.memory.target_distance[0] > 5.0  # the next one
    env.step(still)
    assert abs(env.signals.approach_speed[0]) < 1.0


def test_hop_flight_without_alternation(one: Signals) -> None:
    metrics = record(one, [((k % 20) < 10, (k % 20) < 10) for k in range(400)])
    assert metrics["gait.alternation"] == 0.0 and metrics["gait.flight_fraction"] == pytest.approx(0.5)


def test_staggered_hop_not_alternating(one: Signals) -> None:
    metrics = record(one, [((k % 20) < 10, (k - 1) % 20 < 10) for k in range(400)])
    assert metrics["gait.alternation"] == 0.0 and metrics["gait.phase_stability"] == pytest.approx(1.0)


def test_standing_has_no_gait(one: Signals) -> None:
    metrics = record(one, [(True, True)] * 100, speed=0.0)
    assert metrics["gait.alternation"] == 0.0 and metrics["gait.stride_hz"] == 0.0
    assert np.isnan(metrics["cost_of_transport"])


def footfall(touchdowns: list[float], stride: int = 40, down: int = 24, steps: int = 2000) -> np.ndarray:
    """Return (steps, 1, feet) contacts of feet that land at the given phases of a stride."""
    clock = np.arange(steps)[:, None] - np.round(np.array(touchdowns) * stride)[None, :]
    return ((clock % stride) < down)[:, None, :]


QUADRUPED = ((0, 1), (2, 3))  # fore left, fore right, hind left, hind right


def named(contact: np.ndarray, pairs: gait.Pairs) -> str:
    landed = gait.touchdowns(gait.debounced(contact))
    seconds = contact.shape[0] * DT
    found = {"stride_hz": landed.sum(axis=0).mean() / seconds, "duty_factor": contact.mean()}
    return gait.name(found | gait.footfalls(landed, pairs))


@pytest.mark.parametrize(
    "phases, expected",
    [
        ([0.25, 0.75, 0.0, 0.5], "walk"),
        ([0.5, 0.0, 0.0, 0.5], "trot"),
        ([0.0, 0.5, 0.0, 0.5], "pace"),
        ([0.5, 0.5, 0.0, 0.0], "bound"),
        ([0.4, 0.6, 0.0, 0.2], "gallop"),
    ],
)
def test_quadruped_gaits_named_by_phase(phases: list[float], expected: str) -> None:
    contact = footfall(phases)
    assert named(contact, QUADRUPED) == expected
    found = gait.footfalls(gait.touchdowns(contact), QUADRUPED)
    assert found["phase_stability"] == pytest.approx(1.0)
    assert found["ipsilateral_phase"] == pytest.approx((phases[0] - phases[2]) % 1.0) or expected == "gallop"


@pytest.mark.parametrize(
    "phases, down, expected",
    [([0.0, 0.5], 24, "walk"), ([0.0, 0.5], 14, "run"), ([0.0, 0.0], 20, "hop"), ([0.0, 0.25], 14, "skip")],
)
def test_biped_gaits_phase_duty_factor(phases: list[float], down: int, expected: str) -> None:
    assert named(footfall(phases, down=down), ((0, 1),)) == expected


def test_irregular_contacts_have_no_gait() -> None:
    contact = np.random.default_rng(0).random((2000, 4, 2)) < 0.5
    assert named(contact, ((0, 1),)) == "irregular"
    assert named(np.ones((500, 1, 2), bool), ((0, 1),)) == "stands"


def test_touchdown_debounces_flicker() -> None:
    contact = footfall([0.0, 0.5])
    flicker = contact.copy()
    flicker[4::40, 0, 0] = False  # in the middle of the left foot's stances
    assert (gait.touchdowns(flicker).sum(), gait.touchdowns(contact).sum()) == (149, 99)
    np.testing.assert_array_equal(gait.debounced(flicker), contact)


def test_alternation_counts_turns_only() -> None:
    order = {"turns": "lrlrlr", "limps": "llrllrll", "hops": "bbbb"}
    share = {}
    for name, feet in order.items():
        landed = np.zeros((5 * len(feet), 1, 2), dtype=bool)
        for k, foot in enumerate(feet):
            landed[5 * k, 0] = (foot in "lb", foot in "rb")
        share[name] = gait.alternation(landed, ((0, 1),))
    assert share == {"turns": 1.0, "limps": pytest.approx(1 / 2), "hops": 0.0}


def test_circular_mean_wraps_at_zero() -> None:
    mean, stability = gait.circular_mean(np.array([0.98, 0.02, 0.99, 0.01]))
    assert min(mean, 1.0 - mean) < 1e-9 and stability > 0.98
    assert gait.circular_mean(np.array([0.0, 0.5]))[1] == pytest.approx(0.0)


@pytest.mark.parametrize("k, n, expected", [(0, 32, 0.0), (32, 32, 0.05 ** (1 / 32)), (200, 200, 0.05 ** (1 / 200))])
def test_success_bound_is_clopper_pearson(k: int, n: int, expected: float) -> None:
    assert clopper_pearson_lower(k, n) == pytest.approx(expected)


def test_metrics_table_is_complete(stage_run: Path) -> None:
    names = [metric.name for metric in METRICS]
    header = (stage_run / "eval.csv").read_text().splitlines()[0].split(",")
    found = [column for column in header if column not in ("timesteps", "policy", "gate")]
    metrics = [column for column in found if not column.startswith("reward.")]
    assert metrics == [name for name in names if name not in ("gait.fore_phase", "gait.ipsilateral_phase")]
    assert set(THRESHOLDS.values()) <= set(names)
    assert all(metric.meaning and f"{1.0:{metric.form.replace('d', '.0f')}}" for metric in METRICS)


def test_cost_of_transport_uses_gravity(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(compose(["species=trex", "stage=balance"]), episodes=1)
    animal = evaluator.batch.animal
    assert animal.weight == animal.mass * 9.81
    step = lambda seen: np.ones((1, evaluator.batch.action_space.shape[0]))  # noqa: E731
    monkeypatch.setattr("dinorl.evaluation.metrics.MOVES", 0.0)
    earth = evaluator.run(step)["cost_of_transport"]
    animal.weight /= 6.0  # as on the moon
    assert evaluator.run(step)["cost_of_transport"] == pytest.approx(6.0 * earth)


def test_evaluation_reproducible_first_episodes_only() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.max_episode_steps=80"])
    evaluator = Evaluator(cfg, episodes=8)
    size = evaluator.batch.action_space.shape[0]
    policy = lambda seen: np.tanh(seen[:, :size])  # noqa: E731
    first, second = evaluator.run(policy), evaluator.run(policy)
    assert {k: v for k, v in first.items() if v == v} == {k: v for k, v in second.items() if v == v}
    assert first["episodes"] == 8 and first["length_mean"] <= 80
    shares = sum(value for key, value in first.items() if key.startswith("reward."))
    assert shares == pytest.approx(first["return_mean"], rel=1e-6)


def test_evaluator_skips_finished_episodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator = Evaluator(compose(["species=trex", "stage=behavior", "env.max_episode_steps=80"]), episodes=8)
    policy = lambda seen: np.tanh(seen[:, : evaluator.batch.action_space.shape[0]])  # noqa: E731
    step, spent = BatchEnv.step, []

    def counted(env: BatchEnv, action: np.ndarray, autoreset: bool = True, only: np.ndarray | None = None) -> Step:
        spent.append(env.n if only is None else only.size)
        return step(env, action, autoreset, only)

    monkeypatch.setattr(BatchEnv, "step", counted)
    sparing = evaluator.run(policy)
    assert sum(spent) == 8 * sparing["length_mean"] < 8 * len(spent)
    monkeypatch.setattr(BatchEnv, "step", lambda env, action, **_: step(env, action))
    np.testing.assert_equal(evaluator.run(policy), sparing)


def test_null_policies_share_seeds() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.push_speed=0.0", "env.max_episode_steps=60"])
    nulls = Evaluator(cfg, episodes=8).null_policies()
    assert nulls["zero"]["length_mean"] == 60 and nulls["zero"]["fall_rate"] == 0.0
    assert nulls["random"]["return_mean"] < nulls["zero"]["return_mean"]


def test_evaluate_report_has_null_policies(stage_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "e.json"
    assert word("evaluate", stage_run, "--episodes", "4", "--seed", "7", "--json", path) == 0
    report = json.loads(path.read_text())
    assert (report["episodes"], report["seed"], report["species"], report["stage"]) == (4, 7, "trex", "behavior")
    for part in (report, report["null"]["zero"], report["null"]["random"]):
        assert {
            "return_mean",
            "return_std",
            "length_mean",
            "fall_rate",
            "success_rate",
            "success_lcb95",
            "forward_speed_mean_mps",
            "approach_speed_mean_mps",
            "distance_mean_m",
            "time_to_event_mean_s",
            "cost_of_transport",
        } <= set(part)
        assert {"alternation", "duty_factor", "flight_fraction", "stride_hz", "foot_slip_mps", "name"} <= set(
            part["gait"]
        )
        assert {"pitch_deg", "roll_deg"} == set(part["trunk"])
        assert sum(abs(share) for share in part["reward_share"].values()) == pytest.approx(1.0)
    shown = capsys.readouterr().out
    assert "4 episodes, seeds 7…10" in shown and "doing nothing" in shown and "strides per second" in shown


def test_evaluate_accepts_env_overrides(stage_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = Bundle.open(stage_run)
    assert evaluate(bundle, 2, 0, ["env.max_episode_steps=10"])["length_mean"] == 10
    for override, said in (
        ("ppo.gamma=0.9", "can only be given other conditions"),
        ("env.push_sped=1", "env.push_speed"),
        ("env.push_speed=fast", "fast"),
    ):
        assert word("evaluate", stage_run, "--episodes", "2", override) == 1
        assert said in capsys.readouterr().err


def test_old_bundle_config_loads(stage_run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(resolve(stage_run), old)
    config = OmegaConf.load(Bundle(old).files.config)
    del config["env"]["gait_clock_duty"], config["curriculum"]["min_success_lcb"]
    OmegaConf.save(config, Bundle(old).files.config)
    assert Bundle(old).config.env.gait_clock_duty == 0.5


@pytest.mark.parametrize("ending, pictures", [(".gif", 12), (".mp4", 25)])
def test_film_plays_in_real_time(stage_run: Path, tmp_path: Path, ending: str, pictures: int) -> None:
    path = film(Bundle.open(stage_run), tmp_path / f"film{ending}", seconds=1.0)
    frames = sum(1 for _ in imageio.get_reader(path))
    assert frames == pytest.approx(pictures, abs=1)
    assert path.stat().st_size < 1_000_000


def test_film_caption_lower_edge_only() -> None:
    blank = np.full((240, 320, 3), 90, np.uint8)
    written = subtitled(blank, "T. rex", "", "4.2 m/s")
    changed = np.argwhere((written != blank).any(axis=2))
    assert changed.size and changed[:, 0].min() > 200
