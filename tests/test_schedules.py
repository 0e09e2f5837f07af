"""Schedules and ramps of a stage, and differences between training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import small

from dinorl.config import compose
from dinorl.envs.batch import BatchEnv
from dinorl.learners.base import make_learner
from dinorl.learners.ppo import clip_schedule
from dinorl.learners.sac import actor_schedule
from dinorl.learners.schedules import entropy_schedule, schedule, warm_up
from dinorl.training.ramps import bearing_scale, episode_steps, forward_vel_weight
from dinorl.training.stage import run_stage


def test_schedule_start_to_end() -> None:
    linear, cosine = schedule(1.0, 0.2, "linear"), schedule(1.0, 0.2, "cosine")
    assert [linear(r) for r in (1.0, 0.5, 0.0)] == pytest.approx([1.0, 0.6, 0.2])
    assert [cosine(r) for r in (1.0, 0.5, 0.0)] == pytest.approx([1.0, 0.6, 0.2])
    assert cosine(0.75) > linear(0.75)
    assert linear(-3.0) == cosine(-3.0) == pytest.approx(0.2)  # a rollout may go beyond the budget
    assert schedule(0.3, None, "linear")(0.0) == 0.3


def test_warmup_holds_clip_and_entropy() -> None:
    cfg = compose([
        "species=trex", "stage=locomotion", "curriculum.timesteps=1000", "curriculum.warmup_timesteps=100",
        "curriculum.warmup_clip_range=0.02", "curriculum.warmup_ent_coef=0.5", "ppo.clip_range=0.2",
        "ppo.ent_coef=0.01", "ppo.ent_coef_end=0.0",
    ])  # fmt: skip
    clip, entropy = clip_schedule(cfg), entropy_schedule(0.01, 0.0, "linear", cfg)
    assert [clip(1.0), clip(0.91), clip(0.89)] == [0.02, 0.02, 0.2]
    assert [entropy(1.0), entropy(0.0)] == [0.5, 0.0] and entropy(0.5) == pytest.approx(0.005)
    assert warm_up(lambda r: 1.0, None, cfg)(1.0) == 1.0


def test_warmup_freezes_actor_not_critic(tmp_path: Path) -> None:
    cfg = small(
        "algo=sac", "stage=balance", "curriculum.warmup_timesteps=516", "curriculum.warmup_actor_scale=0.0"
    )  # fmt: skip
    assert [actor_schedule(cfg)(r) for r in (1.0, 0.5, 0.49)] == [0.0, 0.0, 1.0]
    first = make_learner(cfg).state()["policy"]
    run_stage(cfg, tmp_path)
    during, after = (dict(np.load(tmp_path / "bundle" / steps / "policy.npz")) for steps in ("512", "1024"))
    for name, value in first.items():
        waits = name.startswith("actor.")
        assert np.array_equal(during[name], value) == waits, name
        assert not np.array_equal(after[name], value), name


def test_ramp_reaches_final_weight() -> None:
    cfg = compose(["species=trex", "stage=locomotion", "env.forward_vel_weight=2", "curriculum.ramp_start_value=0.5",
                   "curriculum.ramp_timesteps=1000"])  # fmt: skip
    assert [forward_vel_weight(cfg, t) for t in (0, 500, 1000, 5000)] == pytest.approx([0.5, 1.25, 2.0, 2.0])
    assert forward_vel_weight(compose(["species=trex", "env.forward_vel_weight=2"]), 0) == 2.0


def test_updates_count_rollouts() -> None:
    cfg = compose([
        "species=trex", "stage=locomotion", "sim.n_envs=8", "ppo.n_steps=5", "ppo.batch_size=40",
        "curriculum.timesteps=1000", "curriculum.warmup_updates=3", "curriculum.warmup_clip_range=0.02",
        "curriculum.ramp_timesteps=0", "curriculum.ramp_updates=10", "curriculum.ramp_start_value=0.0",
        "env.forward_vel_weight=2",
    ])  # fmt: skip
    assert [forward_vel_weight(cfg, t) for t in (0, 200, 400)] == pytest.approx([0.0, 1.0, 2.0])
    clip = clip_schedule(cfg)
    assert [clip(1.0 - t / 1000) for t in (0, 119, 121)] == [0.02, 0.02, cfg.ppo.clip_range]


def test_target_bearing_ramp_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = small("stage=locomotion", "curriculum.bearing_scale=1.2", "curriculum.bearing_scale_start=0.2",
                "curriculum.bearing_ramp_timesteps=64")  # fmt: skip
    assert [bearing_scale(cfg, t) for t in (0, 32, 64, 5000)] == pytest.approx([0.2, 0.7, 1.2, 1.2])
    at_once = small("stage=locomotion", "curriculum.bearing_scale=1.2", "curriculum.bearing_scale_start=null",
                    "curriculum.bearing_ramp_timesteps=0")  # fmt: skip
    assert bearing_scale(at_once, 0) == 1.2
    scales = []
    begin = BatchEnv._begin

    def spy(self: BatchEnv, ids: np.ndarray) -> None:
        scales.append((self.n, self.bearing_scale))
        begin(self, ids)

    monkeypatch.setattr(BatchEnv, "_begin", spy)
    run_stage(cfg, tmp_path)
    training = [scale for n, scale in scales if n == cfg.sim.n_envs]
    assert training[0] == pytest.approx(0.2) and training[-1] == pytest.approx(1.2) and training == sorted(training)
    assert {scale for n, scale in scales if n != cfg.sim.n_envs} == {1.0}  # the evaluation's stay where they are


def test_push_bearing_scales_training_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = []
    push = BatchEnv._push

    def spy(self: BatchEnv) -> None:
        scales.append((self.n, self.push_scale, self.bearing_scale))
        push(self)

    monkeypatch.setattr(BatchEnv, "_push", spy)
    cfg = small("stage=balance", "curriculum.push_scale=1.5", "curriculum.bearing_scale=1.2")
    run_stage(cfg, tmp_path)
    assert set(scales) == {(cfg.sim.n_envs, 1.5, 1.2), (cfg.eval.episodes, 1.0, 1.0)}


def test_push_scale_multiplies_speed() -> None:
    gained = []
    for scale in (1.0, 2.0):
        batch = BatchEnv(compose(["species=trex", "stage=balance", "env.push_interval=0.02", "env.push_speed=0.5"]), 4)
        batch.push_scale = scale
        batch.reset()
        batch._push()
        gained.append(np.hypot(*batch.sim.qvel[:, :2].T))
    np.testing.assert_allclose(gained[1] / gained[0], 2.0)


def test_bearing_scale_widens_first_targets() -> None:
    cfg = small("stage=locomotion", "env.first_target_bearing_range=[-2,1]", "env.prey_lateral_range=[0,0]")
    seen = []
    for scale in (1.0, 1.5, 9.0):
        batch = BatchEnv(cfg, 64)
        batch.bearing_scale = scale
        batch.reset()
        target_h = batch._look(np.arange(batch.n)).target_h
        seen.append(np.arctan2(target_h[:, 1], target_h[:, 0]))
    np.testing.assert_allclose(seen[1][np.abs(seen[1]) < 3.0], 1.5 * seen[0][np.abs(seen[1]) < 3.0], atol=0.02)
    assert np.abs(seen[0]).max() < 2.02 and np.abs(seen[1]).max() > 2.5
    assert np.histogram(seen[2], bins=4, range=(-np.pi, np.pi))[0].min() > 4  # all around


def test_episode_scale_training_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: dict[int, set[int]] = {}
    step = BatchEnv.step

    def spy(self: BatchEnv, *args: Any, **kwargs: Any) -> Any:
        taken = step(self, *args, **kwargs)
        ended.setdefault(self.n, set()).update(taken.episodes.lengths[taken.episodes.truncated])
        return taken

    monkeypatch.setattr(BatchEnv, "step", spy)
    cfg = small("stage=balance", "curriculum.episode_scale=0.25", "env.max_episode_steps=40", "env.push_speed=0")
    run_stage(cfg, tmp_path)
    assert max(ended[cfg.sim.n_envs]) == 10 and ended[cfg.eval.episodes] == {40}


def test_episode_length_ramp_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = small("stage=balance", "env.max_episode_steps=40", "curriculum.episode_scale=0.5",
                "curriculum.episode_scale_start=0.1", "curriculum.episode_ramp_timesteps=512")  # fmt: skip
    assert [episode_steps(cfg, t) for t in (0, 256, 512, 5000)] == [4, 12, 20, 20]
    assert episode_steps(small("stage=balance", "curriculum.episode_scale=0.5", "env.max_episode_steps=40"), 0) == 20
    limits = []
    step = BatchEnv.step

    def spy(self: BatchEnv, *args: Any, **kwargs: Any) -> Any:
        limits.append((self.n, self.max_episode_steps))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(BatchEnv, "step", spy)
    run_stage(cfg, tmp_path)
    training = [limit for n, limit in limits if n == cfg.sim.n_envs]
    assert training[0] == 4 and training[-1] == 20 and training == sorted(training)
    assert {limit for n, limit in limits if n != cfg.sim.n_envs} == {40}
