"""Where physics and learning run: what is chosen, what is refused, and what stays on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from commands import dinorl_here

from dinorl.bundle.bundle import Bundle
from dinorl.config import Config, ConfigError, compose
from dinorl.config.identity import job_key, trained_on
from dinorl.evaluation.evaluator import Evaluator
from dinorl.learners.base import make_learner
from dinorl.learners.sb3 import SB3Learner
from dinorl.sim import devices
from dinorl.sim.cpu import CpuSimulation


@pytest.fixture(scope="module")
def plain() -> Config:
    return compose(["species=trex", "stage=balance"])


def placed(cfg: Config, backend: str, physics: str, learning: str) -> Config:
    sim = replace(cfg.sim, backend=backend, device=physics)
    return replace(cfg, sim=sim, algo=replace(cfg.algo, device=learning))


def found(monkeypatch: pytest.MonkeyPatch, warp: str | None, torch: str | None) -> None:
    """Let the machine have these GPUs, and Warp."""
    monkeypatch.setattr(devices, "find_spec", lambda name: object())
    monkeypatch.setattr(devices, "_warp_gpu", lambda: warp)
    monkeypatch.setattr(devices, "torch_gpu", lambda: torch)


@pytest.mark.parametrize(("chosen", "gpu", "said"), [
    (("cpu", "auto", "auto"), "H", "physics on the CPU, learning on the CPU"),
    (("cpu", "auto", "cuda"), "H", "physics on the CPU, learning on cuda (H), judged on the CPU"),
    (("warp", "auto", "auto"), "H", "physics on MuJoCo Warp (H), learning on cuda (H), judged on the CPU"),
    (("warp", "cuda", "cpu"), "H", "physics on MuJoCo Warp (H), learning on the CPU, judged on the CPU"),
    (("warp", "cpu", "auto"), "H",
     "physics on MuJoCo Warp without a GPU, which is slow, learning on the CPU, judged on the CPU"),
    (("warp", "auto", "auto"), None,
     "physics on MuJoCo Warp without a GPU, which is slow, learning on the CPU, judged on the CPU"),
])  # fmt: skip
def test_chosen_devices_are_said(
    chosen: tuple[str, str, str], gpu: str | None, said: str, plain: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, gpu, gpu)
    cfg = placed(plain, *chosen)
    assert devices.where(cfg.sim, cfg.algo) == said


@pytest.mark.parametrize(("chosen", "message"), [
    (("warp", "cuda", "cpu"), "sim.device=cuda: Warp finds no NVIDIA GPU with a driver here. Type sim.backend=cpu"),
    (("cpu", "auto", "cuda"), "algo.device=cuda: torch .* Type algo.device=cpu"),
    (("warp", "cpu", "cuda"), "algo.device=cuda: torch "),
])  # fmt: skip
def test_missing_gpu_is_refused(
    chosen: tuple[str, str, str], message: str, plain: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, None, None)
    cfg = placed(plain, *chosen)
    with pytest.raises(ConfigError, match=message):
        devices.places([(cfg.sim, cfg.algo)])


def test_missing_warp_is_refused(plain: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"sim.backend=warp: warp and mujoco_warp cannot .* make setup GPU=1"):
        devices.physics_device(placed(plain, "warp", "auto", "auto").sim)


def test_missing_gpu_ends_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, None, None)
    done = dinorl_here(tmp_path, "species=trex", "stage=balance", "algo.device=cuda", "sweep.isolate=false")
    assert done.returncode == 2
    assert "algo.device=cuda: torch" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_cpu_identity_is_unchanged(plain: Config) -> None:
    """Runs of before had none of these keys."""
    for cfg in (plain, placed(plain, "cpu", "auto", "cpu")):
        assert not {"sim.backend", "sim.device", "sim.deterministic", "algo.device"} & set(trained_on(cfg))
        assert job_key(cfg, None) == job_key(plain, None)


def test_device_belongs_to_identity(plain: Config) -> None:
    places = [("cpu", "auto", "auto"), ("cpu", "auto", "cuda"), ("warp", "cpu", "cpu"), ("warp", "cuda", "cuda")]
    assert len({job_key(placed(plain, *place), None) for place in places}) == len(places)


def test_older_bundle_runs_on_cpu() -> None:
    cfg = Bundle.open("trex/balance").config
    assert (cfg.sim.backend, cfg.algo.device) == ("cpu", "auto")


def test_policies_are_judged_on_cpu(plain: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle from a GPU plays on a laptop, without Warp."""
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    monkeypatch.setattr(devices, "torch_gpu", lambda: None)
    cfg = placed(plain, "warp", "cuda", "cuda")
    assert isinstance(Evaluator(cfg, 2).batch.sim, CpuSimulation)
    player = make_learner(cfg, learning=False)
    assert isinstance(player, SB3Learner) and isinstance(player.batch.sim, CpuSimulation)
    assert player.model.device.type == "cpu"
