"""One stage: gate, bundle, hand-over, and small real runs of both algorithms."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL, small

from dinorl.bundle import write
from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import resolve
from dinorl.bundle.player import load_player
from dinorl.config import ALGORITHMS as KNOWN
from dinorl.config import Config, ConfigError, HandOver, compose
from dinorl.evaluation.evaluator import Evaluator
from dinorl.learners import state
from dinorl.learners.base import make_learner
from dinorl.learners.sac import StageSAC, replay_ratio
from dinorl.learners.sb3 import SB3Learner
from dinorl.tracking.listener import Listener
from dinorl.training.gate import THRESHOLDS, Gate
from dinorl.training.stage import run_stage

ALGORITHMS = sorted(KNOWN)


class Recorder(Listener):
    """Keeps what a stage tells its listeners."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.said: list[str] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.metrics.append((step, dict(metrics)))

    def say(self, text: str) -> None:
        self.said.append(text)


def small_learner(cfg: Config) -> SB3Learner:
    learner = make_learner(cfg)
    assert isinstance(learner, SB3Learner)
    return learner


def observations(learner: SB3Learner, n: int) -> np.ndarray:
    shape = (n, *learner.batch.observation_space.shape)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def gate_of(required_consecutive: int = 1, **thresholds: float) -> Gate:
    chosen = dict.fromkeys(THRESHOLDS) | thresholds
    curriculum = compose(["species=trex"]).curriculum
    return Gate(replace(curriculum, required_consecutive=required_consecutive, **chosen))  # type: ignore[arg-type]


def test_gate_needs_consecutive_passes() -> None:
    gate = gate_of(required_consecutive=2, min_avg_reward=10.0, min_avg_episode_length=50.0)
    good = {"return_mean": 11.0, "length_mean": 50.0}
    short = {"return_mean": 11.0, "length_mean": 49.0}
    assert [gate.update(m) for m in (good, short, good, good)] == [False, False, False, True]


def test_gate_without_thresholds_never_passes() -> None:
    assert not gate_of().update({})


@pytest.mark.parametrize(
    "threshold, metric, good, bad",
    [("min_gait_alternation=0.9", "gait.alternation", 0.9, 0.89), ("max_fall_rate=0.02", "fall_rate", 0.02, 0.03),
     ("min_success_lcb=0.9", "success_lcb95", 0.91, 0.89),
     ("min_avg_approach_vel=3", "approach_speed_mean_mps", 3.0, 2.9)],
)  # fmt: skip
def test_gate_supports_each_metric(threshold: str, metric: str, good: float, bad: float) -> None:
    key, value = threshold.split("=")
    gate = gate_of(**{key: float(value)})
    assert gate.holds({metric: good}) and not gate.holds({metric: bad})


def test_replay_ratio_counts_whole_batch() -> None:
    cfg = compose(["species=trex", "algo=sac", "sim.n_envs=32", "sac.train_freq=2", "sac.gradient_steps=16"])
    assert replay_ratio(cfg) == 0.25


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_stage_writes_expected_outputs(algo: str, tmp_path: Path) -> None:
    cfg = small(f"algo={algo}", "stage=balance", "curriculum.min_avg_reward=1e6")
    tracker = Recorder()
    result = run_stage(cfg, tmp_path, [tracker])
    assert result.gate == "advanced_on_budget" and result.timesteps >= 1024
    rows = list(csv.DictReader((tmp_path / "eval.csv").open()))
    assert [r["policy"] for r in rows[:2]] == ["zero", "random"] and rows[-1]["policy"] == "policy"
    assert result.bundle == tmp_path / "bundle" / "best"
    kept = [p.name for p in (tmp_path / "bundle").iterdir() if p.name.isdigit()]
    assert 1 <= len(kept) <= cfg.eval.keep and not list((tmp_path / "bundle").glob(".*"))
    meta = json.loads((result.bundle / "meta.json").read_text())
    assert len(meta["mjcf_sha256"]) == 64 and meta["species"] == "trex" and meta["versions"]["mujoco"].startswith("4.")
    logged = set().union(*(m for _, m in tracker.metrics))
    assert {"eval/return_mean", "time/evaluation_share", "time/tracking_share"} <= logged
    assert any(key.startswith("train/") for key in logged) and not any("null" in key for key in logged)
    nulls = json.loads((tmp_path / "null_policies.json").read_text())
    assert nulls["zero"]["fall_rate"] == float(rows[0]["fall_rate"])
    assert Bundle(result.bundle).config == cfg


def test_best_bundle_prefers_gate_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow run may earn more than one that passes the gate."""
    evaluations = iter([(900.0, 3.0), (500.0, 4.5), (400.0, 4.6), (950.0, 3.9)])  # return, m/s
    run = Evaluator.run

    def measured(self: Evaluator, policy: Any) -> dict[str, float]:
        value, speed = next(evaluations)
        return run(self, policy) | {"return_mean": value, "return_std": 0.0, "forward_speed_mean_mps": speed}

    monkeypatch.setattr(Evaluator, "run", measured)
    monkeypatch.setattr(Evaluator, "null_policies", lambda self: {})
    others = [f"curriculum.{key}=null" for key in THRESHOLDS]  # whatever the recipe's gate asks for
    cfg = small("stage=locomotion", *others, "curriculum.min_avg_forward_vel=4.0", "curriculum.required_consecutive=3",
                "eval.every=256")  # fmt: skip
    result = run_stage(cfg, tmp_path)
    assert Bundle(result.bundle).meta["evaluation"]["return_mean"] == 500.0


@pytest.mark.parametrize(("start", "expected"), [(0, [256, 512, 768, 1024]), (700, [768, 1024]), (5000, [1024])])
def test_eval_start_delays_evaluations(start: int, expected: list[int], tmp_path: Path) -> None:
    """The one at the end is always there."""
    never = "curriculum.min_avg_reward=1e6"
    run_stage(small("stage=balance", never, "eval.every=256", f"eval.start={start}"), tmp_path)
    with (tmp_path / "eval.csv").open() as file:
        assert [int(row["timesteps"]) for row in csv.DictReader(file) if row["policy"] == "policy"] == expected


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_training_is_seed_deterministic(algo: str, tmp_path: Path) -> None:
    cfg = small(f"algo={algo}", "stage=balance", "sim.threads=1")
    weights = []
    for name in ("a", "b"):
        best = run_stage(cfg, tmp_path / name).bundle.parent
        weights.append(Bundle.open(best).arrays("policy"))
    for key, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][key])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core")
def test_pinned_process_uses_one_thread(tmp_path: Path) -> None:
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    torch.set_num_threads(2)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        run_stage(small("stage=balance", "curriculum.timesteps=256", "sim.threads=0"), tmp_path)
        assert torch.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def test_warm_start_policy_obs_stats_only(tmp_path: Path) -> None:
    first = run_stage(small("stage=balance"), tmp_path / "1")
    cfg = small("stage=locomotion")
    learner = small_learner(cfg)
    fresh_reward_statistics = learner.env.ret_rms.count
    handed = Bundle(first.bundle)
    handed.warm_start(learner)
    for key, value in learner.model.policy.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), handed.arrays("policy")[key])
    np.testing.assert_array_equal(learner.env.obs_rms.mean, handed.arrays("normalization")["obs_mean"])
    assert learner.env.ret_rms.count == fresh_reward_statistics
    assert not learner.model.policy.optimizer.state_dict()["state"]


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("hand_over", ["all", "policy", "statistics", "nothing"])
def test_hand_over_chooses_parts(algo: str, hand_over: HandOver, tmp_path: Path) -> None:
    before = small_learner(small(f"algo={algo}", "stage=balance"))
    for value in before.model.policy.state_dict().values():
        value += 1.0
    before.env.obs_rms.mean += 1.0
    bundle = Bundle(write.save(tmp_path / "b", before, before.cfg, {}))
    learner = small_learner(small(f"algo={algo}", "stage=locomotion"))
    fresh = {key: value.clone() for key, value in learner.model.policy.state_dict().items()}
    bundle.warm_start(learner, hand_over)
    values = {"ppo": "value_net", "sac": "critic"}[algo]
    for key, value in learner.model.policy.state_dict().items():
        handed = hand_over == "all" or (hand_over == "policy" and values not in key)
        torch.testing.assert_close(
            value, before.model.policy.state_dict()[key] if handed else fresh[key], rtol=0, atol=0
        )
    handed = hand_over != "nothing"
    np.testing.assert_array_equal(learner.env.obs_rms.mean, before.env.obs_rms.mean if handed else 0.0)


def test_actor_ema_acts_and_transfers(tmp_path: Path) -> None:
    """EMA with ``sac.actor_tau`` per gradient step; the newest actor explores and learns."""
    cfg = small("algo=sac", "stage=balance", "sac.actor_tau=0.1", "sac.policy_kwargs.mirror=false")
    learner = small_learner(cfg)
    model = learner.model
    assert isinstance(model, StageSAC)
    model.learn(256)
    assert model.average is not None
    for _ in range(3):
        before = [p.detach().clone() for p in model.average.module.parameters()]
        model.train(2, 32)
        averages = model.average.module.parameters()
        for old, average, own in zip(before, averages, model.actor.parameters(), strict=True):
            torch.testing.assert_close(average, 0.81 * old + 0.19 * own)
            assert not torch.equal(average, own)
    saved = Bundle(write.save(tmp_path / "b", learner, cfg, {}))
    seen = observations(learner, 5)
    acts, _ = model.predict(seen, deterministic=True)
    assert not np.array_equal(acts, model.policy.predict(seen, deterministic=True)[0])
    learns, average = model.actor.state_dict(), model.average.module.state_dict()
    handed = small_learner(cfg)
    saved.warm_start(handed)
    np.testing.assert_array_equal(handed.model.predict(seen, deterministic=True)[0], acts)
    for key, value in handed.model.actor.state_dict().items():
        torch.testing.assert_close(value, average[key], rtol=0, atol=0)
    other = small_learner(cfg)
    other.load(saved.learner_files())
    resumed = other.model
    assert isinstance(resumed, StageSAC) and resumed.average is not None
    for key, value in resumed.actor.state_dict().items():
        torch.testing.assert_close(value, learns[key], rtol=0, atol=0)
        torch.testing.assert_close(resumed.average.module.state_dict()[key], average[key], rtol=0, atol=0)


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_explore_widens_noise_only(algo: str) -> None:
    """The mean action is unchanged; only the noise has the new width."""
    cfg = small(f"algo={algo}", "stage=balance")
    learner = small_learner(cfg)
    model = learner.model
    seen = observations(learner, 2000)
    before, _ = model.predict(seen, deterministic=True)
    learner.explore(-0.5)
    np.testing.assert_array_equal(model.predict(seen, deterministic=True)[0], before)
    noisy, _ = model.predict(seen)
    # tanh narrows SAC's noise to 0.47
    assert np.std(noisy - before) == pytest.approx(np.exp(-0.5) if algo == "ppo" else 0.47, abs=0.06)


def test_warm_start_other_species_refused(tmp_path: Path) -> None:
    first = run_stage(small("stage=balance", "curriculum.timesteps=256"), tmp_path)
    other = compose([*SMALL[1:], "species=velociraptor", "stage=locomotion", f"warm_start={first.bundle}"])
    with pytest.raises(ConfigError, match="trex/ppo does not fit.*Use the same species"):
        run_stage(other, tmp_path / "2")


def test_null_policy_voids_gate(tmp_path: Path) -> None:
    cfg = small("stage=balance", "curriculum.min_avg_episode_length=1", "curriculum.required_consecutive=1",
                "eval.episodes=32")  # fmt: skip
    tracker = Recorder()
    result = run_stage(cfg, tmp_path, [tracker])
    assert result.gate == "not proven" and result.timesteps < 1024
    assert any("zero" in line and "proves nothing" in line for line in tracker.said)


def test_metrics_logged_once_per_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the last timed report and the final one fell on the same step."""
    monkeypatch.setattr("dinorl.training.follow.REPORT_EVERY", 0.0)
    tracker = Recorder()
    run_stage(small("stage=balance", "curriculum.timesteps=512"), tmp_path, [tracker])
    logged = [(key, step) for step, metrics in tracker.metrics for key in metrics]
    assert ("time/steps_per_s", 512) in logged and len(logged) == len(set(logged))


def test_budget_stops_curriculum(tmp_path: Path) -> None:
    cfg = small("stage=balance", "curriculum.on_budget=stop", "curriculum.min_avg_episode_length=1000000")
    assert run_stage(cfg, tmp_path).gate == "stopped_on_budget"


def test_bundle_write_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = small("stage=balance")
    learner = small_learner(cfg)
    write.save(tmp_path / "best", learner, cfg, {"return_mean": 1.0})

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "normalization_arrays", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write.save(tmp_path / "best", learner, cfg, {"return_mean": 2.0})
    assert Bundle(tmp_path / "best").meta["evaluation"] == {"return_mean": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_missing_bundle_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no bundle there: it does not exist"):
        resolve(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="found no meta.json"):
        resolve(tmp_path)


def test_player_matches_trained_policy(tmp_path: Path) -> None:
    cfg = small("stage=balance", "algo=sac")
    learner = small_learner(cfg)
    learner.model.learn(256)
    player = load_player(Bundle(write.save(tmp_path / "b", learner, cfg, {})))
    seen = observations(learner, 5)
    np.testing.assert_allclose(player(seen), learner.policy()(seen), atol=1e-6)
    assert learner.mirror is not None
    policy = (seen[:, learner.mirror.sine] >= 0)[:, None]  # without the mirror
    expected, _ = learner.model.predict(learner.env.normalize_obs(seen), deterministic=True)
    np.testing.assert_allclose(player(seen) * policy, expected * policy, atol=1e-6)


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_untrained_policy_holds_home_pose(algo: str) -> None:
    """Both algorithms start with small noise around the home pose."""
    cfg = small(f"algo={algo}", "stage=balance")
    learner = small_learner(cfg)
    model, observation = learner.model, learner.env.reset()
    mean, _ = model.predict(observation, deterministic=True)
    assert np.abs(mean).max() < 0.1
    drawn = np.stack([model.predict(observation, deterministic=False)[0] for _ in range(200)])
    log_std = (cfg.ppo if algo == "ppo" else cfg.sac).policy_kwargs.log_std_init
    # tanh narrows SAC's noise
    assert drawn.std() == pytest.approx(np.exp(log_std) if algo == "ppo" else np.tanh(np.exp(log_std)), rel=0.1)


def test_critic_layer_norm_configurable() -> None:
    for wanted in (True, False):
        cfg = small("algo=sac", "stage=balance", f"sac.policy_kwargs.layer_norm={str(wanted).lower()}")
        model = small_learner(cfg).model
        assert isinstance(model, StageSAC)
        for critic in (model.critic, model.critic_target):
            layers = [m for m in critic.modules() if isinstance(m, torch.nn.LayerNorm)]
            assert len(layers) == (2 * len(cfg.sac.policy_kwargs.net_arch) if wanted else 0)
            assert [len(list(q.parameters())) for q in critic.q_networks] == [10 if wanted else 6] * 2


def test_listener_stops_stage(tmp_path: Path) -> None:
    class Impatient(Listener):
        def evaluated(self, step: int, metrics: Mapping[str, float]) -> bool:
            return step >= 512

    cfg = small("stage=balance", "curriculum.min_avg_reward=1e6")
    result = run_stage(cfg, tmp_path, [Impatient()])
    assert result.gate == "stopped_by_listener" and 512 <= result.timesteps < cfg.curriculum.timesteps
    assert Bundle(result.bundle).meta["timesteps"] == 512


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_learner_keeps_its_promises(algo: str, tmp_path: Path) -> None:
    """Every algorithm: a policy, a restorable state, counted steps."""
    cfg = small("stage=balance", f"algo={algo}", "curriculum.timesteps=256")
    learner = make_learner(cfg)

    class Count:
        def __init__(self) -> None:
            self.steps = self.rollouts = 0

        def training_started(self) -> None:
            assert learner.timesteps == 0

        def rollout_started(self) -> None:
            self.rollouts += 1

        def stepped(self) -> bool:
            self.steps += 1
            return True

        def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
            assert all(key.startswith("train/") for key in metrics)

    hooks = Count()
    learner.learn(256, hooks)
    assert learner.timesteps == 256 == hooks.steps * learner.batch.n and hooks.rollouts >= 1 and learner.updates
    seen = np.zeros((3, *learner.batch.observation_space.shape), np.float32)
    assert learner.policy()(seen).shape == (3, *learner.batch.action_space.shape)
    learner.save_experience(tmp_path)
    experience, files, position = learner.read_experience(tmp_path, 256), learner.state(), learner.position()
    other = make_learner(cfg)
    other.load(files)
    other.restore(position, experience)
    assert other.timesteps == 256 and other.updates == learner.updates
    np.testing.assert_array_equal(other.policy()(seen), learner.policy()(seen))
    for name, arrays in other.state().items():
        for key, value in arrays.items():
            np.testing.assert_array_equal(value, files[name][key], err_msg=f"{name}/{key}")


def test_listener_error_keeps_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Listener):
        def say(self, text: str) -> None:
            raise ValueError("no terminal")

    cfg = small("stage=balance", "curriculum.timesteps=256")
    assert run_stage(cfg, tmp_path, [Broken()]).timesteps == 256
    assert "Broken.say failed" in caplog.text and "no terminal" in caplog.text


def test_short_rollout_is_one_minibatch() -> None:
    """Few animals need no smaller ``ppo.batch_size`` typed; one that leaves a remainder is refused."""
    learner = make_learner(compose(["species=trex", "stage=balance", "sim.n_envs=4"]))
    assert learner.model.batch_size == 4 * learner.model.n_steps < 4096
    learner.close()
    with pytest.raises(ConfigError, match="a divisor of"):
        compose(["species=trex", "stage=balance", "sim.n_envs=100"])
