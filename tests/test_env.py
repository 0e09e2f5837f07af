"""The batch and its views for Gymnasium and Stable-Baselines3."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import VecNormalize

from dinorl.config import compose
from dinorl.envs.batch import BatchEnv
from dinorl.envs.registration import environment_ids
from dinorl.learners.vec_env import DinoVecEnv
from dinorl.sim.cpu import CpuSimulation
from dinorl.sim.interface import Simulation
from tests.conftest import SPECIES

IDS = sorted(environment_ids())


def actions(n: int, size: int, steps: int, scale: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-scale, scale, (steps, n, size))


def test_environment_ids_registered() -> None:
    assert {
        f"dinorl/{animal}-{stage}-v0"
        for animal, third in (("TRex", "Bite"), ("Velociraptor", "Strike"), ("Brachiosaurus", "FoodReach"))
        for stage in ("Balance", "Locomotion", third)
    } == set(IDS) and set(IDS) <= set(gym.registry)


@pytest.mark.parametrize("name", IDS)
def test_env_checkers_pass(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(minimum|maximum) value is -?infinity.*")
        env = gym.make(name, render_mode="rgb_array")
        gymnasium_check_env(env.unwrapped)
        sb3_check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("species", SPECIES)
def test_render_shows_animal(species: str) -> None:
    env = gym.make(
        next(i for i, (s, stage) in environment_ids().items() if (s, stage) == (species, "balance")),
        render_mode="rgb_array",
    )
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (480, 640, 3) and picture.dtype == np.uint8
    middle = picture[120:360, 160:480].astype(float)
    assert middle.std() > 10.0  # more than an empty sky
    env.close()


def test_rollout_invariant_to_batch_threads() -> None:
    cfg = compose(["species=trex", "stage=balance"])
    runs = []
    for n, threads in ((1, 1), (5, 2), (64, 2)):
        env = BatchEnv(replace(cfg, sim=replace(cfg.sim, threads=threads)), n)
        env.seed(7)
        first = env.reset()[0].copy()
        plan = actions(1, env.action_space.shape[0], 120)
        steps = [env.step(np.repeat(a, n, axis=0)) for a in plan]
        runs.append((first, np.array([s.observation[0] for s in steps]), np.array([s.reward[0] for s in steps])))
    for first, observations, rewards in runs[1:]:
        np.testing.assert_array_equal(first, runs[0][0])
        np.testing.assert_array_equal(observations, runs[0][1])
        np.testing.assert_array_equal(rewards, runs[0][2])


def test_batch_seeds_are_consecutive() -> None:
    cfg = compose(["species=velociraptor", "stage=locomotion"])
    batch, single = BatchEnv(cfg, 4), BatchEnv(cfg, 1)
    batch.seed(10)
    single.seed(12)
    np.testing.assert_array_equal(batch.reset()[2], single.reset()[0])


def test_reset_sequence_varies_and_repeats() -> None:
    env = gym.make("dinorl/TRex-Balance-v0")
    first, _ = env.reset(seed=3)
    second, _ = env.reset()
    assert not np.array_equal(first, second)
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(second, env.reset()[0])


def test_observation_world_frame_invariant() -> None:
    """The same animal, moved and turned in the world, sees the same.

    Turned by a right angle: MuJoCo's friction pyramids have their sides along the world's axes.
    """
    cfg = compose(["species=trex", "stage=balance", "env.push_speed=0.0", "env.reset_noise_scale=0.0"])
    seen = []
    for yaw, shift in ((0.0, (0.0, 0.0)), (np.pi / 2, (30.0, -7.0))):
        env = BatchEnv(cfg, 1)
        env.reset()
        cos, sin = np.cos(yaw), np.sin(yaw)
        env.sim.qpos[0, :2] = shift
        env.sim.qpos[0, 3:7] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        env.sim.target[0, :2] = [shift[0] + cos * 8 - sin, shift[1] + sin * 8 + cos]
        env.sim.refresh(np.array([0]))
        env.memory.phase[:] = 0.0
        env.memory.start_w[:] = shift
        seen.append([env.step(a).observation[0] for a in actions(1, env.action_space.shape[0], 15)])
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-3)


def test_timeout_truncates_fall_terminates() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.max_episode_steps=30", "env.push_speed=0.0"])
    env = DinoVecEnv(cfg, n=2)
    env.seed(1)
    env.reset()
    zero = np.zeros((2, env.action_space.shape[0]))
    for _ in range(30):
        observation, _, dones, infos = env.step(zero)
    assert dones.all()
    for i, info in enumerate(infos):
        assert info["TimeLimit.truncated"] and info["episode"]["l"] == 30
        assert not np.array_equal(info["terminal_observation"], observation[i])
        total = sum(info["reward_terms"].values())
        assert total == pytest.approx(info["episode"]["r"], rel=1e-9)
    env.batch.sim.qpos[0, 2] = 0.2
    _, _, dones, infos = env.step(zero)
    assert dones.tolist() == [True, False]
    assert not infos[0]["TimeLimit.truncated"]
    assert "fall_penalty" in infos[0]["reward_terms"] and infos[0]["reward_terms"]["fall_penalty"] < 0


def test_divergence_resets_one_animal() -> None:
    cfg = compose(["species=trex", "stage=balance"])
    broken, whole = (BatchEnv(cfg, 4) for _ in range(2))
    plan = actions(4, broken.action_space.shape[0], 30, 0.2)
    for env in (broken, whole):
        env.seed(0)
        env.reset()
    for k, action in enumerate(plan):
        if k == 10:
            broken.sim.qvel[2] = 1e12
        one, other = broken.step(action), whole.step(action)
        assert np.isfinite(one.observation).all() and np.isfinite(one.reward).all()
        np.testing.assert_array_equal(one.observation[[0, 1, 3]], other.observation[[0, 1, 3]])
        if k == 10:
            assert one.terminated.tolist() == [False, False, True, False]
            assert one.episodes.diverged.tolist() == [True]
    assert broken.diverged == 1 and whole.diverged == 0


class Narrow:
    """A simulation of which only the protocol can be seen."""

    def __init__(self, inner: CpuSimulation) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        assert name in Simulation.__annotations__ or name in vars(Simulation), f"{name} is not of the protocol"
        return getattr(self._inner, name)


def test_batch_needs_protocol_only(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose(["species=trex", "stage=locomotion"])
    whole = BatchEnv(cfg, 4)
    monkeypatch.setattr(
        "dinorl.envs.batch.make_simulation",
        lambda animal, sim, n: Narrow(CpuSimulation(animal, n, sim.frame_skip, sim.threads)),
    )
    narrow = BatchEnv(cfg, 4)
    assert isinstance(narrow.sim, Narrow) and isinstance(whole.sim, CpuSimulation)
    for env in (whole, narrow):
        env.seed(0)
        env.reset()
    for k, action in enumerate(actions(4, whole.action_space.shape[0], 40)):
        if k == 5:  # one diverges, and one reaches its target
            for env in (whole, narrow):
                env.sim.qvel[2] = 1e12
                env.sim.target[1, :2] = env.sim.qpos[1, :2]
        if k == 20:
            narrow.restore(whole.state())
        one, other = whole.step(action), narrow.step(action)
        np.testing.assert_array_equal(one.observation, other.observation)
        np.testing.assert_array_equal(one.reward, other.reward)
    assert narrow.diverged == 1


def test_partial_step_is_isolated() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.push_speed=0.0"])
    some, whole = (BatchEnv(cfg, 4) for _ in range(2))
    going, resting = np.array([0, 3]), np.array([1, 2])
    for env in (some, whole):
        env.seed(0)
        env.reset()
    pose, velocity = some.sim.qpos.copy(), some.sim.qvel.copy()
    for action in actions(4, some.action_space.shape[0], 30, 0.2):
        one, other = some.step(action, only=going), whole.step(action)
        np.testing.assert_array_equal(one.observation[going], other.observation[going])
        np.testing.assert_array_equal(one.reward[going], other.reward[going])
    np.testing.assert_array_equal(some.sim.qpos[resting], pose[resting])
    np.testing.assert_array_equal(some.sim.qvel[resting], velocity[resting])
    assert (some.sim.qpos[going] != pose[going]).any(axis=1).all()


def test_stagger_only_in_training() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.push_speed=0.0", "env.max_episode_steps=40"])
    lengths = []
    for stagger in (True, False):
        env = BatchEnv(cfg, 32, stagger=stagger)
        env.reset()
        ended: list[int] = []
        for _ in range(40):
            ended += env.step(np.zeros((32, env.action_space.shape[0]))).episodes.lengths.tolist()
        lengths.append(ended[:32])
    assert len(set(lengths[0])) > 10 and set(lengths[1]) == {40}


def test_vector_env_final_observations() -> None:
    envs = gym.make_vec("dinorl/TRex-Balance-v0", num_envs=3)
    observation, _ = envs.reset(seed=0)
    assert observation.shape == envs.observation_space.shape
    envs.unwrapped.batch.sim.qpos[1, 2] = 0.2
    observation, _, terminated, truncated, info = envs.step(np.zeros(envs.action_space.shape))
    assert terminated.tolist() == [False, True, False] and not truncated.any()
    assert info["_final_obs"].tolist() == [False, True, False]
    assert info["final_obs"][1].shape == observation[1].shape
    assert not np.array_equal(info["final_obs"][1], observation[1])
    wrapped = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    wrapped.reset(seed=0)
    envs.unwrapped.batch.sim.qpos[2, 2] = 0.2
    info = wrapped.step(np.zeros(envs.action_space.shape))[-1]
    assert info["_episode"].tolist() == [False, False, True]


def test_sb3_wrappers_work() -> None:
    env = VecNormalize(DinoVecEnv(compose(["species=trex", "stage=balance"]), n=4))
    observation = env.reset()
    assert observation.shape == (4, *env.observation_space.shape)
    assert env.get_attr("render_mode") == [None] * 4
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 4


def test_action_maps_home_and_limits() -> None:
    for species in SPECIES:
        env = BatchEnv(compose([f"species={species}", "stage=balance"]), 3)
        env.reset()
        size = env.action_space.shape[0]
        for _ in range(100):  # servo targets lag behind the actions
            env.step(np.array([np.zeros(size), np.ones(size), -np.ones(size)]), autoreset=False)
        ctrl = env.sim._ctrl
        model = env.animal.model
        np.testing.assert_allclose(ctrl[0], model.key("home").ctrl)
        np.testing.assert_allclose(ctrl[1], model.actuator_ctrlrange[:, 1], atol=1e-6)
        np.testing.assert_allclose(ctrl[2], model.actuator_ctrlrange[:, 0], atol=1e-6)


@pytest.mark.parametrize("species", SPECIES)
def test_model_stands_at_nominal_mass(species: str) -> None:
    env = BatchEnv(compose([f"species={species}", "stage=balance", "env.push_speed=0.0"]), 8)
    model = env.animal.model
    assert model.opt.jacobian == mujoco.mjtJacobian.mjJAC_DENSE  # mujoco 4.0.0 mis-solves sparse ones (#3767)
    assert env.animal.mass == pytest.approx(
        {"velociraptor": 13.5, "trex": 85.0, "brachiosaurus": 175.0}[species], rel=0.01
    )
    env.reset()
    for _ in range(150):
        step = env.step(np.zeros((8, model.nu)))
        assert not step.terminated.any()
    load = env.sim.sensors[:, env.animal.layout.foot_touch].sum(axis=1)
    np.testing.assert_allclose(load, env.animal.weight, rtol=0.03)
    assert np.degrees(np.abs(env.signals.pitch).max()) < 6.0


def test_missing_egl_only_disables_rendering(tmp_path: Path) -> None:
    script = (
        "import ctypes, os\n"
        "load = ctypes.CDLL.__init__\n"
        "def without_egl(self, name, *rest, **more):\n"
        "    if name and 'EGL' in str(name): raise OSError(f'{name}: cannot open shared object file')\n"
        "    load(self, name, *rest, **more)\n"
        "ctypes.CDLL.__init__ = without_egl\n"
        "from dinorl.config import compose\n"
        "from dinorl.envs.batch import BatchEnv\n"
        "from dinorl.envs.render import Camera\n"
        "batch = BatchEnv(compose(['species=trex', 'stage=balance']), 1)\n"
        "try: Camera(batch)\n"
        "except RuntimeError as error: print(error)\n"
    )
    bare = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=bare, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("cannot draw") and "libegl1" in done.stdout, done.stderr
