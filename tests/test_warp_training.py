"""Stages on MuJoCo Warp's CPU device: they train, resume to the bit, and hand over to MuJoCo and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed: make setup GPU=1")

from test_resume import PPO, SAC, Stopped, assert_same, small

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import numbered
from dinorl.sim.cpu import CpuSimulation
from dinorl.sim.warp import WarpSimulation
from dinorl.tracking.listener import Listener
from dinorl.training import stage
from dinorl.training.follow import Follower
from dinorl.training.interrupt import Interrupted
from dinorl.training.stage import run_stage

WARP = ("sim.backend=warp", "sim.device=cpu")
SHORT = ("curriculum.timesteps=512", "curriculum.required_consecutive=9")


@pytest.mark.parametrize("algorithm", [PPO, SAC], ids=["ppo", "sac"])
def test_warp_stage_resumes_bit_exact(algorithm: tuple[str, ...], tmp_path: Path) -> None:
    cfg = small(*algorithm, *WARP, *SHORT)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run_stage(cfg, straight)
    with pytest.raises(Interrupted):
        run_stage(cfg, broken, interruption=Stopped(40))
    np.random.seed(1)  # no dependence on process history
    assert run_stage(cfg, broken).timesteps == cfg.curriculum.timesteps
    kept = [path.name for path in numbered(straight / "bundle")]
    assert kept == [path.name for path in numbered(broken / "bundle")]
    for name in ("best", *kept):
        assert_same(straight / "bundle" / name, broken / "bundle" / name)
    assert (straight / "eval.csv").read_text() == (broken / "eval.csv").read_text()


class Lines(Listener):
    """Keeps what a stage says."""

    def __init__(self) -> None:
        self.said = ""

    def say(self, text: str) -> None:
        self.said += f"{text}\n"


def test_hand_over_between_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sims = []

    class Watched(Follower):
        def finish(self) -> None:
            sims.append((type(self.learner.batch.sim), type(self.evaluator.batch.sim)))
            super().finish()

    monkeypatch.setattr(stage, "Follower", Watched)
    start: list[str] = []
    for k, place in enumerate([(), WARP, ()]):
        lines, folder = Lines(), tmp_path / str(k)
        result = run_stage(small(*PPO, *place, "curriculum.timesteps=128", *start), folder, [lines])
        assert ("physics on MuJoCo Warp" in lines.said) == (place == WARP)
        assert ("starts from" in lines.said) == bool(start)
        start = [f"warm_start={result.bundle}"]
    assert sims == [(CpuSimulation,) * 2, (WarpSimulation, CpuSimulation), (CpuSimulation,) * 2]
    assert Bundle.open(tmp_path / "1").config.sim.backend == "warp"
