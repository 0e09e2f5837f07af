"""An interrupted stage resumes exactly: its result equals an uninterrupted one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dinorl.bundle.locate import numbered
from dinorl.config import Config, ConfigError, compose
from dinorl.envs.batch import BatchEnv
from dinorl.learners.sb3 import TRAINING_SEEDS
from dinorl.training import resume
from dinorl.training.interrupt import Interrupted, Interruption
from dinorl.training.stage import run_stage

SMALL = ("sim.n_envs=8", "eval.episodes=2", "env.max_episode_steps=40", "eval.video_seconds=0", "eval.every=400",
         "sim.threads=1")  # fmt: skip
PPO = ("species=trex", "stage=balance", "algo=ppo", "ppo.n_steps=16", "ppo.batch_size=64", "curriculum.timesteps=1280")
SAC = ("species=trex", "stage=balance", "algo=sac", "sac.batch_size=32", "sac.learning_starts=100",
       "curriculum.timesteps=1280", "sac.buffer_size=800")  # fmt: skip


def small(*overrides: str) -> Config:
    return compose([*overrides, *SMALL])


class Stopped(Interruption):
    """Receives SIGTERM at the n-th check."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def check(self, kept: bool, timesteps: int) -> None:
        self.looks -= 1
        if self.looks <= 0:
            self.signum = self.signum or 15
            self._since = self._since or 1e12
        super().check(kept, timesteps)


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for name in ("policy.npz", "optimizer.npz", "normalization.npz", "random.npz"):
        with np.load(folder / name) as file:
            found |= {f"{name}/{key}": file[key] for key in file.files}
    return found


def assert_same(one: Path, other: Path) -> None:
    first, second = arrays_of(one), arrays_of(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)


@pytest.mark.parametrize("algorithm", [PPO, SAC], ids=["ppo", "sac"])
def test_interrupted_stage_resumes_bit_exact(algorithm: tuple[str, ...], tmp_path: Path) -> None:
    cfg = small(*algorithm)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run_stage(cfg, straight)
    interruptions = 0
    for looks in (30, 20, 20, 1, 10_000):
        try:
            run_stage(cfg, broken, interruption=Stopped(looks))
        except Interrupted:
            interruptions += 1
            np.random.seed(interruptions)  # no dependence on process history
    assert interruptions == 4
    kept = [path.name for path in numbered(straight / "bundle")]
    assert kept == [path.name for path in numbered(broken / "bundle")]
    for name in ("best", *kept):
        assert_same(straight / "bundle" / name, broken / "bundle" / name)
    assert (straight / "eval.csv").read_text() == (broken / "eval.csv").read_text()
    resume.finish(broken)
    assert not (broken / "replay").exists() and not list(broken.rglob("state.npz"))


@pytest.mark.parametrize("algorithm", [PPO, SAC], ids=["ppo", "sac"])
def test_resume_skips_damaged_bundle(
    algorithm: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = small(*algorithm)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run_stage(cfg, straight)
    with pytest.raises(Interrupted):
        run_stage(cfg, broken, interruption=Stopped(100))
    newest, older = numbered(broken / "bundle")
    with np.load(older / "state.npz") as state:
        # away from evaluation seeds and the next block
        assert list(state["batch/seeds"]) == [TRAINING_SEEDS + i for i in range(cfg.sim.n_envs)]
    policy = newest / "policy.npz"
    policy.write_bytes(policy.read_bytes()[:1000])
    run_stage(cfg, broken)
    assert f"{newest} is damaged" in caplog.text and older.name not in caplog.text
    assert_same(straight / "bundle" / "best", broken / "bundle" / "best")


def test_resume_ignores_other_config(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run_stage(small(*PPO), tmp_path, interruption=Stopped(60))
    assert numbered(tmp_path / "bundle")
    result = run_stage(small(*PPO, "seed=1"), tmp_path)
    other = tmp_path / "other"
    run_stage(small(*PPO, "seed=1"), other)
    assert_same(result.bundle, other / "bundle" / "best")


def test_resume_ignores_other_parent(tmp_path: Path) -> None:
    run_stage(small(*PPO, "tracking.job=one"), tmp_path)
    (tmp_path / "evaluation.json").write_text("{}")
    cfg = small(*PPO, "tracking.job=other", "curriculum.timesteps=384")
    result = run_stage(cfg, tmp_path)
    assert result.timesteps == 384 and not (tmp_path / "evaluation.json").exists()


def test_resume_allows_keep_threads_change(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run_stage(small(*PPO), tmp_path, interruption=Stopped(60))
    reached = numbered(tmp_path / "bundle")[0].name
    with pytest.raises(Interrupted):
        run_stage(small(*PPO, "eval.keep=5", "sim.threads=2"), tmp_path, interruption=Stopped(1))
    assert (tmp_path / "bundle" / reached).exists()


def test_unreadable_bundles_are_kept(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run_stage(small(*PPO), tmp_path, interruption=Stopped(60))
    for folder in numbered(tmp_path / "bundle"):
        (folder / "state.npz").write_bytes(b"damaged")
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="none of its bundles can be resumed from"):
        run_stage(small(*PPO), tmp_path)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_batch_state_restores_bit_exact() -> None:
    cfg = small("species=velociraptor", "stage=locomotion", "env.push_interval=0.1", "env.push_speed=1",
                "ppo.batch_size=192")  # fmt: skip
    one, other = BatchEnv(cfg, stagger=True), BatchEnv(cfg, stagger=True)
    one.seed(5)
    one.reset()
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, one.n, *one.action_space.shape))
    for action in actions[:30]:
        one.step(action)
    other.reset()
    other.restore(one.state())
    for action in actions[30:]:
        ahead, behind = one.step(action), other.step(action)
        np.testing.assert_array_equal(ahead.observation, behind.observation)
        np.testing.assert_array_equal(ahead.reward, behind.reward)


def test_batch_refuses_incompatible_state() -> None:
    batch = BatchEnv(small("species=trex", "stage=locomotion", "ppo.batch_size=384"), stagger=True)
    batch.reset()
    state = batch.state()
    with pytest.raises(ValueError, match=r"memory/last_touchdown: found .*1\), expected .*2\)"):
        batch.restore(state | {"memory/last_touchdown": state["memory/last_touchdown"][:, :1]})
