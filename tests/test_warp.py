"""MuJoCo Warp against MuJoCo, on Warp's CPU device: the same animals, the same rewards."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed: make setup GPU=1")

from conftest import SPECIES

from dinorl.config import Config, compose
from dinorl.envs.batch import BatchEnv
from dinorl.sim import warp
from dinorl.sim.interface import Simulation
from dinorl.sim.warp import WarpSimulation

N = 6


def on_warp(cfg: Config, device: str = "cpu") -> Config:
    return replace(cfg, sim=replace(cfg.sim, backend="warp", device=device))


class Pair:
    """One stage on both backends, in the same moving state."""

    def __init__(self, species: str) -> None:
        cfg = compose([f"species={species}", "stage=behavior", "env.push_interval=0.1", "env.push_speed=0.5"])
        self.cpu, self.warp = BatchEnv(cfg, N), BatchEnv(on_warp(cfg), N)
        self.rng = np.random.default_rng(0)
        for env in (self.cpu, self.warp):
            env.seed(3)
            env.reset()
        for _ in range(30):
            self.cpu.step(self.actions())
        self.align()

    def actions(self) -> np.ndarray:
        return self.rng.uniform(-0.4, 0.4, (N, *self.cpu.action_space.shape))

    def align(self) -> None:
        self.warp.restore(self.cpu.state())


@pytest.fixture(scope="module", params=SPECIES)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


@pytest.fixture(scope="module")
def trex() -> Config:
    return compose(["species=trex", "stage=locomotion"])


def close(found: np.ndarray, expected: np.ndarray, within: float, name: str = "") -> None:
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=within, err_msg=name)


def test_state_survives_both_backends(pair: Pair) -> None:
    pair.align()
    sim: Simulation = pair.warp.sim
    np.testing.assert_array_equal(sim.qpos, pair.cpu.sim.qpos.astype(np.float32))
    np.testing.assert_array_equal(sim.target, pair.cpu.sim.target.astype(np.float32))
    physics = pair.cpu.sim.state()["physics"]
    timeless = slice(1, None)  # nothing depends on the time
    np.testing.assert_array_equal(sim.state()["physics"][:, timeless], physics[:, timeless].astype(np.float32))


def test_control_step_agrees(pair: Pair) -> None:
    pair.align()
    action = pair.actions()
    one, other = pair.warp.step(action), pair.cpu.step(action)
    found, expected = pair.warp.sim, pair.cpu.sim
    close(found.qpos, expected.qpos, 1e-5)
    close(found.qvel, expected.qvel, 1e-3)
    weight = pair.cpu.animal.weight
    close(found.substeps / weight, expected.substeps / weight, 2e-3)  # forces share the state's error
    np.testing.assert_array_equal(one.terminated, other.terminated)
    close(one.observation, other.observation, 1e-3)


def test_reward_terms_agree(pair: Pair) -> None:
    pair.align()
    for _ in range(5):
        action = pair.actions()
        one, other = pair.warp.step(action, autoreset=False), pair.cpu.step(action, autoreset=False)
        close(one.reward, other.reward, 1e-3)
        for name, term in pair.cpu.task.terms.items():
            close(pair.warp.task.terms[name](pair.warp.signals), term(pair.cpu.signals), 1e-3, name)


def test_reset_agrees(pair: Pair) -> None:
    one, other = (env.reset(np.array([1, 4])) for env in (pair.warp, pair.cpu))
    close(one, other, 1e-4)
    close(pair.warp.sim.qpos, pair.cpu.sim.qpos, 1e-3)


def test_reached_target_moves_on(trex: Config) -> None:
    one, other = BatchEnv(on_warp(trex), 2), BatchEnv(trex, 2)
    for env in (one, other):
        env.reset()
        env.sim.target[1, :2] = env.sim.qpos[1, :2]
        before = env.sim.target.copy()
        env.step(np.zeros((2, *env.action_space.shape)))
        moved = (env.sim.target != before).any(axis=1)
        assert moved.tolist() == [False, True]
    close(one.sim.target, other.sim.target, 1e-4)
    close(one.memory.target_distance, other.memory.target_distance, 1e-4)


def test_push_changes_speed(trex: Config) -> None:
    still = np.zeros((2, 17))
    speeds = []
    for push in (0.0, 0.5):
        cfg = replace(trex, env=replace(trex.env, push_interval=0.02, push_speed=push))
        env = BatchEnv(on_warp(cfg), 2)
        env.reset()
        env.step(still)
        speeds.append(env.sim.qvel[:, :2].copy())
    close(np.linalg.norm(speeds[1] - speeds[0], axis=1), np.full(2, 0.5), 0.1)


def test_divergence_resets_one_animal(trex: Config) -> None:
    broken, whole = (BatchEnv(on_warp(trex), 4) for _ in range(2))
    for env in (broken, whole):
        env.reset()
    rng = np.random.default_rng(0)
    for k in range(8):
        if k in (3, 5):
            broken.sim.qvel[2] = 1e12 if k == 3 else np.nan
        action = rng.uniform(-0.2, 0.2, (4, 17))
        one, other = broken.step(action), whole.step(action)
        assert np.isfinite(one.observation).all() and np.isfinite(one.reward).all()
        np.testing.assert_array_equal(one.observation[[0, 1, 3]], other.observation[[0, 1, 3]])
        assert one.diverged.tolist() == [False, False, k in (3, 5), False]
    assert broken.diverged == 2 and whole.diverged == 0
    size = broken.sim.state()["physics"].shape[1]
    assert [fault.state.shape for fault in broken.faults] == [(size,)] * 2


def test_partial_step_is_isolated(trex: Config) -> None:
    some, whole = (BatchEnv(on_warp(trex), 4) for _ in range(2))
    for env in (some, whole):
        env.reset()
    action, going = np.full((4, 17), 0.2), np.array([3, 1])
    before = some.sim.state()
    some.sim.step(action, going)
    whole.sim.step(action)
    for name, array in some.sim.state().items():
        np.testing.assert_array_equal(array[[0, 2]], before[name][[0, 2]], err_msg=name)
        np.testing.assert_array_equal(array[going], whole.sim.state()[name][going], err_msg=name)


def test_missing_room_is_named(trex: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "room", lambda model: (1, 4))
    env = BatchEnv(on_warp(trex), 2)
    env.reset()
    with pytest.raises(warp.Overflow, match=r"no room for all constraints and contacts of 2 of 2 animals: it keeps 1"):
        for _ in range(20):
            env.step(np.zeros((2, 17)))


def test_room_covers_random_motion(pair: Pair) -> None:
    contacts, constraints = warp.room(pair.cpu.animal.model)
    model = pair.cpu.animal.model
    data = mujoco.MjData(model)
    for pose in pair.cpu.sim.qpos:
        data.qpos[:] = pose
        mujoco.mj_forward(model, data)
        assert data.ncon <= contacts <= 64 and data.nefc <= constraints


def gpu_batch(cfg: Config, n: int) -> BatchEnv:
    env = BatchEnv(on_warp(cfg, "cuda"), n)
    env.reset()
    return env


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(trex: Config) -> None:
    one, other = gpu_batch(trex, 16), BatchEnv(trex, 16)
    other.reset()
    for _ in range(3):
        one.step(np.full((16, 17), 0.2)), other.step(np.full((16, 17), 0.2))
    close(one.sim.qpos, other.sim.qpos, 1e-4)


@pytest.mark.gpu
def test_gpu_runs_repeat_exactly(trex: Config) -> None:
    ends = []
    for _ in range(2):
        env, rng = gpu_batch(trex, 256), np.random.default_rng(0)
        for _ in range(50):
            env.step(rng.uniform(-1.0, 1.0, (256, 17)))
        ends.append(env.sim.state()["physics"])
    np.testing.assert_array_equal(*ends)


@pytest.mark.gpu
def test_gpu_step_is_one_graph(trex: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    env = gpu_batch(trex, 256)
    env.step(np.zeros((256, 17)), autoreset=False)
    monkeypatch.setattr(warp.mjw, "step", lambda *_: pytest.fail("a physics step outside of the graph"))
    assert isinstance(env.sim, WarpSimulation)
    env.step(np.zeros((256, 17)), autoreset=False)


@pytest.mark.gpu
def test_gpu_gains_from_many_animals(trex: Config) -> None:
    """Eight times the animals take less than four times as long."""
    import time

    seconds = []
    for n in (512, 4096):
        env, still = gpu_batch(trex, n), np.zeros((n, 17))
        env.sim.step(still)
        begun = time.perf_counter()
        for _ in range(20):
            env.sim.step(still)
        seconds.append(time.perf_counter() - begun)
    assert seconds[1] < 4.0 * seconds[0]
