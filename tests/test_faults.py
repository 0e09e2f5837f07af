"""Simulations that diverge: recorded, replayed, and counted against a limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import word

from dinorl.config import ConfigError, compose
from dinorl.envs.batch import BatchEnv
from dinorl.training import faults
from dinorl.training.stage import run_stage

SMALL = ("species=trex", "stage=balance", "sim.n_envs=8", "eval.episodes=2", "env.max_episode_steps=40",
         "sim.threads=1", "eval.video_seconds=0",
         "ppo.n_steps=16", "ppo.batch_size=64", "curriculum.timesteps=1280")  # fmt: skip


def break_down(monkeypatch: pytest.MonkeyPatch, animal: int, every: int) -> None:
    """Give one animal an impossible joint speed every so many steps."""
    whole, steps = BatchEnv.step, 0

    def step(self: BatchEnv, *args: object, **options: object) -> object:
        nonlocal steps
        steps += 1
        if self.stagger and steps % every == 0:  # in training only
            self.sim.qvel[animal, self.animal.joint_qvel[3]] = 1e12
        return whole(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(BatchEnv, "step", step)


def test_fault_recorded_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_down(monkeypatch, animal=5, every=60)
    result = run_stage(compose(list(SMALL)), tmp_path)
    assert result.timesteps == 1280, "a few breakdowns stop nothing"
    kept = sorted((tmp_path / "faults").iterdir())
    assert 1 <= len(kept) <= 5
    steps = faults.replay(kept[0])
    assert [step.broken for step in steps] == [False, True]
    cfg = compose(list(SMALL))
    env = BatchEnv(cfg, 1)
    joint = env.animal.model.joint(env.animal.model.dof_jntid[env.animal.joint_qvel[3]]).name
    assert word("replay-fault", kept[0]) == 0
    said = capsys.readouterr().out
    assert joint in said and "BROKEN" in said


def test_excess_faults_stop_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_down(monkeypatch, animal=5, every=1)
    monkeypatch.setattr("dinorl.training.follow.REPORT_EVERY", 0.0)
    with pytest.raises(faults.TooManyFaults, match=r"sim\.timestep=0\.002 sim\.frame_skip=10"):
        run_stage(compose(list(SMALL)), tmp_path)
    assert len(list((tmp_path / "faults").iterdir())) <= faults.MAX_FILES


def test_invalid_fault_file_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, state=np.zeros(3))
    for path in (other, tmp_path / "missing.npz"):
        with pytest.raises(ConfigError, match="expected a file of a run's faults/ folder"):
            faults.replay(path)
