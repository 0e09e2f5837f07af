"""The benchmark: a fair opponent, contenders in turns, the promised JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

import dinorl.benchmarks.report as bench
from dinorl.benchmarks.environment import Limit, record
from dinorl.benchmarks.plain_env import PlainEnv
from dinorl.benchmarks.training import TrainingContender, training_contenders
from dinorl.config import Config, compose
from dinorl.envs.batch import BatchEnv
from dinorl.tasks.rewards import EVENT_TERMS, TERMS

SPECIES = ["brachiosaurus", "trex", "velociraptor"]


def everything_paid(species: str, stage: str, **env: object) -> Config:
    """Compose a config in which every term has a weight of its own, and nothing depends on unshared random numbers."""
    cfg = compose([f"species={species}", f"stage={stage}"])
    keys = [*TERMS, *(cfg.species.event.keys[role] for role in EVENT_TERMS if role in cfg.species.event.keys)]
    weights: dict[str, object] = {key: 0.1 + 0.01 * i for i, key in enumerate(keys)}
    if stage != "behavior":
        weights[cfg.species.event.keys["bonus"]] = 0.0
    knobs: dict[str, object] = {"foot_contact_gate": 0.3, "fall_penalty": -3.0, "push_interval": 0.0}
    knobs["nosedive_termination_threshold"] = 0.6
    return replace(cfg, env=replace(cfg.env, **{**weights, **knobs, **env}))


class Pair:
    """The batch's first animal and the plain one, moved together."""

    def __init__(self, cfg: Config) -> None:
        self.batch, self.plain = BatchEnv(cfg, 1), PlainEnv(cfg)
        self.batch.seed(7)
        self.plain.draw_target = lambda *_: self.batch.sim.target[0].copy()  # type: ignore[method-assign]
        self.begin()

    def begin(self) -> None:
        sim = self.batch.sim
        seen = self.batch.reset()[0]
        plain = self.plain.begin(sim.qpos[0], sim.qvel[0], sim.target[0], self.batch.memory.phase[0])
        np.testing.assert_allclose(plain, seen, atol=1e-6)

    def step(self, action: np.ndarray) -> bool:
        step = self.batch.step(action[None], autoreset=False)
        observation, reward, terminated, truncated, info = self.plain.step(action)
        np.testing.assert_allclose(observation, step.observation[0], atol=1e-6)
        assert reward == pytest.approx(step.reward[0], abs=1e-9)
        assert (terminated, truncated) == (step.terminated[0], step.truncated[0])
        assert info["is_success"] == step.success[0]
        return bool(terminated or truncated)


@pytest.mark.parametrize("stage", ["balance", "locomotion", "behavior"])
@pytest.mark.parametrize("species", SPECIES)
def test_plain_env_matches_batch(species: str, stage: str) -> None:
    pair = Pair(everything_paid(species, stage, max_episode_steps=60))
    rng = np.random.default_rng(0)
    action, ended = np.zeros(pair.plain.action_space.shape), 0
    for _ in range(200):
        action = 0.9 * action + 0.3 * rng.normal(size=action.shape)
        if pair.step(action):
            ended += 1
            pair.begin()
    assert ended >= 3


def test_plain_env_matches_after_retarget() -> None:
    pair = Pair(everything_paid("trex", "locomotion", prey_distance_range=[1.0, 1.4], prey_lateral_range=[0.0, 0.0]))
    before = pair.batch.sim.target[0].copy()
    pair.step(np.zeros(pair.plain.action_space.shape))
    assert not np.array_equal(pair.batch.sim.target[0], before)
    pair.step(np.zeros(pair.plain.action_space.shape))


def test_plain_env_push_interval() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.push_interval=0.02", "env.push_speed=2.0"])
    env = PlainEnv(cfg)
    env.reset(seed=0)
    env.step(np.zeros(env.action_space.shape))
    assert np.hypot(*env.data.qvel[:2]) > 1.0  # a push at every control step of 0.02 s


def test_plain_env_reset_is_seeded() -> None:
    env = PlainEnv(compose(["species=velociraptor", "stage=balance"]))
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
    """Reports given rates and writes down when it was run."""

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
    assert bench.main(["--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert sorted(found) == SPECIES
    for species in SPECIES:
        assert found[species] == {
            "env": {f"{name}_steps_per_s": 100.0 + i for i, name in enumerate(["batch", "limit", "dummy", "subproc"])},
            "train": {f"{name}_steps_per_s": 100.0 + i for i, name in enumerate(["ppo", "ppo_reference", "sac"])},
            **stage,
        }
    assert "SubprocVecEnv" in capsys.readouterr().out


def test_unknown_species_single_message(capsys) -> None:
    assert bench.main(["--species", "dodo"]) != 0
    error = capsys.readouterr().err
    assert "dodo" in error and "trex" in error and "Traceback" not in error
