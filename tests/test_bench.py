"""The benchmark: a fair opponent, contenders in turns, the promised JSON."""

from __future__ import annotations

import json

import mujoco
import numpy as np
import pytest
import torch
from commands import word
from stable_baselines3 import PPO

import dinorl.benchmarks.report as bench
from dinorl.benchmarks.environment import Limit, record
from dinorl.benchmarks.plain_env import PlainEnv, control, plain_env
from dinorl.benchmarks.training import TrainingContender, training_contenders
from dinorl.config import compose
from dinorl.envs.batch import BatchEnv
from dinorl.sim.model import Animal

SPECIES = ["brachiosaurus", "trex", "velociraptor"]


@pytest.mark.parametrize("species", SPECIES)
def test_plain_env_same_physics(species: str) -> None:
    """Given the batch's commands it goes through the same states, to the last bit."""
    cfg = compose([f"species={species}", "stage=locomotion", "env.push_speed=0"])
    batch, env = BatchEnv(cfg, 1), PlainEnv(cfg)
    batch.reset()
    env.reset(seed=0)
    begun = batch.sim.state()["physics"][0]
    mujoco.mj_setState(env.model, env.data, begun, mujoco.mjtState.mjSTATE_INTEGRATION.value)
    rng = np.random.default_rng(0)
    for _ in range(100):
        batch.step(rng.uniform(-1.0, 1.0, (1, batch.animal.model.nu)), autoreset=False)
        observation = env.step(batch.signals.action[0])[0]
        assert np.array_equal(env.data.qpos, batch.sim.qpos[0]) and np.array_equal(env.data.qvel, batch.sim.qvel[0])
    assert np.array_equal(observation, np.concatenate([env.data.qpos[2:], env.data.qvel]))
    assert env.dt == pytest.approx(batch.animal.control_timestep)


def test_plain_env_action_range() -> None:
    cfg = compose(["species=trex", "stage=balance"])
    animal = Animal(cfg.species, cfg.sim)
    for action, expected in ((0.0, animal.home_ctrl), (1.0, animal.ctrl_high), (-1.0, animal.ctrl_low)):
        np.testing.assert_allclose(control(animal, np.full(animal.model.nu, action)), expected, atol=1e-12)


def test_plain_env_ends_when_low() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.max_episode_steps=5"])
    env = plain_env(cfg)
    still = np.zeros(env.action_space.shape)
    env.reset(seed=0)
    ends = [env.step(still)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    env.reset()
    env.unwrapped.data.qpos[2] = 0.5 * cfg.env.healthy_z_range[0]
    assert env.step(still)[2]


def test_plain_env_reset_is_seeded() -> None:
    env = plain_env(compose(["species=velociraptor", "stage=balance"]))
    first = env.reset(seed=3)[0]
    assert np.array_equal(env.reset(seed=3)[0], first)
    assert not np.array_equal(env.reset()[0], first)


def test_limit_counts_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose(["species=trex", "stage=balance", "sim.threads=2"])
    limit = Limit(cfg)
    simulated: list[tuple[int, float]] = []  # whose, s
    mj_step = mujoco.mj_step

    def counted(model: mujoco.MjModel, data: mujoco.MjData, nstep: int) -> None:
        before = data.time
        mj_step(model, data, nstep=nstep)
        simulated.append((id(data), data.time - before))

    monkeypatch.setattr(mujoco, "mj_step", counted)
    assert limit.run(0.1) > 0.0
    assert len(limit._data) == 2 and {who for who, _ in simulated} == {id(data) for data in limit._data}
    assert limit.steps == pytest.approx(sum(time for _, time in simulated) / (cfg.sim.timestep * cfg.sim.frame_skip))


def test_limit_replays_batch_physics() -> None:
    cfg = compose(["species=trex", "stage=locomotion"])
    motion = record(cfg, steps=200, n=2)[0]
    batch = BatchEnv(cfg, 2)
    batch.seed(0)
    batch.reset()
    rng = np.random.default_rng(0)
    ended = False
    while not ended:
        ended = bool(batch.step(rng.uniform(-1.0, 1.0, (2, batch.animal.model.nu)), autoreset=False).episodes.ids.size)
    model = batch.animal.model
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, motion.state, mujoco.mjtState.mjSTATE_INTEGRATION.value)
    for command in motion.commands:
        data.ctrl[:] = command
        mujoco.mj_step(model, data, nstep=cfg.sim.frame_skip)
    assert np.array_equal(data.qpos, batch.sim.qpos[0]) or np.array_equal(data.qpos, batch.sim.qpos[1])


def test_reference_uses_common_settings() -> None:
    sac = compose(["species=trex", "stage=balance", "algo=sac", "sim.n_envs=2", "sac.buffer_size=1000"])
    cfg = compose(["species=trex", "stage=balance", "sim.n_envs=2", "ppo.batch_size=48"])
    contenders = training_contenders(cfg, sac)
    reference = contenders["ppo_reference"]
    assert isinstance(reference, TrainingContender)
    model = reference.model
    assert isinstance(model, PPO)
    assert (model.n_envs, model.n_steps, model.batch_size, model.n_epochs) == (4, 2048, 128, 10)
    layers = [layer for layer in model.policy.mlp_extractor.policy_net if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [512, 256]
    assert contenders["ppo"].run(0.01) > 0.0
    for contender in contenders.values():
        contender.close()


class FakeContender:
    """Returns given rates and logs when it ran."""

    def __init__(self, name: str, rates: list[float], log: list[str]) -> None:
        self.name, self.rates, self.log = name, iter(rates), log

    def run(self, seconds: float) -> float:
        self.log.append(self.name)
        return next(self.rates)

    def close(self) -> None:
        self.log.append(f"close {self.name}")


def test_contenders_alternate_and_report_median() -> None:
    log: list[str] = []
    rates = bench.median_rates(
        {"a": FakeContender("a", [1.0, 9.0, 2.0], log), "b": FakeContender("b", [5.0, 5.0, 5.0], log)}, 3, 0.0
    )
    assert rates == {"a_steps_per_s": 2.0, "b_steps_per_s": 5.0}
    assert log == ["a", "b"] * 3 + ["close a", "close b"]


def test_report_has_expected_keys(tmp_path, monkeypatch, capsys) -> None:
    def rates(*names: str):
        return lambda *_: {name: FakeContender(name, [100.0 + i] * 5, []) for i, name in enumerate(names)}

    monkeypatch.setattr(bench, "environment_contenders", rates("batch", "limit", "dummy", "subproc"))
    monkeypatch.setattr(bench, "training_contenders", rates("ppo", "ppo_reference", "sac"))
    stage = {"startup_s": 4.0, "evaluation_share": 0.05, "tracking_share": 0.001}
    monkeypatch.setattr(bench, "stage_metrics", lambda *_: stage)
    path = tmp_path / "bench.json"
    assert word("bench", "--json", path) == 0
    found = json.loads(path.read_text())
    assert sorted(found) == SPECIES
    for species in SPECIES:
        assert found[species] == {
            "env": {f"{name}_steps_per_s": 100.0 + i for i, name in enumerate(["batch", "limit", "dummy", "subproc"])},
            "train": {f"{name}_steps_per_s": 100.0 + i for i, name in enumerate(["ppo", "ppo_reference", "sac"])},
            **stage,
        }
    assert "plain MujocoEnv, SubprocVecEnv(4)" in capsys.readouterr().out


def test_unknown_species_single_message(capsys) -> None:
    assert word("bench", "--species", "dodo") == 1
    error = capsys.readouterr().err
    assert "dodo" in error and "trex" in error and "Traceback" not in error
