"""Mirror symmetry: of the physics, and of policies."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from dinorl.config import ConfigError, compose
from dinorl.envs.batch import BatchEnv
from dinorl.envs.mirror import mirror_of
from dinorl.learners.base import make_learner
from dinorl.learners.vec_env import DinoVecEnv, MirrorVecEnv
from dinorl.sim.model import Animal
from tests.conftest import SPECIES

EVERYONE = np.ones(1, dtype=bool)


def reflect(env: BatchEnv, other: BatchEnv) -> None:
    """Put ``other`` into the mirror image (y changes sign) of the state that ``env`` is in."""
    mirror = mirror_of(env.animal)
    columns, signs = mirror.action
    animal = env.animal
    other.sim.qpos[:, :3] = env.sim.qpos[:, :3] * [1.0, -1.0, 1.0]
    other.sim.qpos[:, 3:7] = env.sim.qpos[:, 3:7] * [1.0, -1.0, 1.0, -1.0]
    other.sim.qvel[:, :3] = env.sim.qvel[:, :3] * [1.0, -1.0, 1.0]
    other.sim.qvel[:, 3:6] = env.sim.qvel[:, 3:6] * [-1.0, 1.0, -1.0]
    other.sim.qpos[:, animal.joint_qpos] = env.sim.qpos[:, animal.joint_qpos][:, columns] * signs
    other.sim.qvel[:, animal.joint_qvel] = env.sim.qvel[:, animal.joint_qvel][:, columns] * signs
    other.sim.target[:] = env.sim.target * [1.0, -1.0, 1.0]
    other.sim.refresh(np.arange(env.n))
    other.memory.phase[:] = (env.memory.phase + 0.5) % 1.0
    other.memory.start_w[:] = env.memory.start_w * [1.0, -1.0]


@pytest.mark.parametrize("species", SPECIES)
def test_mirrored_dynamics_match(species: str) -> None:
    """Also a check on the models: their left and right sides have the same masses, gains and contacts."""
    cfg = compose([f"species={species}", "stage=behavior", "sim.threads=1"])
    env, other = BatchEnv(cfg, 1), BatchEnv(cfg, 1)
    for one in (env, other):
        one.seed(5)
        one.reset()
    mirror = mirror_of(env.animal)
    # along world axes, as the friction pyramids
    env.sim.qpos[:, 3:7] = [1.0, 0.0, 0.0, 0.0]
    reflect(env, other)
    rng = np.random.default_rng(0)
    for _ in range(15):
        action = 0.3 * rng.uniform(-1.0, 1.0, (1, env.action_space.shape[0]))
        seen = env.step(action)
        image = other.step(mirror.acted(action, EVERYONE))
        np.testing.assert_allclose(mirror.shown(seen.observation, EVERYONE), image.observation, atol=2e-3)
        assert seen.reward == pytest.approx(image.reward, abs=2e-2)


@pytest.mark.parametrize("species", SPECIES)
def test_mirror_is_involution(species: str) -> None:
    env = BatchEnv(compose([f"species={species}", "stage=locomotion"]), 4)
    mirror, everyone = mirror_of(env.animal), np.ones(4, dtype=bool)
    seen, action = env.reset(), np.random.default_rng(0).uniform(-1.0, 1.0, (4, env.action_space.shape[0]))
    np.testing.assert_array_equal(mirror.shown(mirror.shown(seen, everyone), everyone), seen)
    np.testing.assert_array_equal(mirror.acted(mirror.acted(action, everyone), everyone), action)
    assert (mirror.second_half(seen) != mirror.second_half(mirror.shown(seen, everyone))).all()
    left_of = {"hip_pitch_l": "hip_pitch_r", "hip_pitch_hl": "hip_pitch_hr"}
    names = [env.animal.model.actuator(i).name for i in range(env.animal.model.nu)]
    assert any(names[mirror.action[0][names.index(a)]] == b for a, b in left_of.items() if a in names)


# of the arrays that dinorl 0.1 made from the joints' names; trained policies depend on them
MIRRORS = {
    "velociraptor": "9342bbc2c5437b66ebbb97f97a90c88a8d90891cb1df05299c70852c58a13fb3",
    "trex": "3806dda9aa4999578d15858bfda991556c1ca85c48c9c9099fd608e40f9fdf53",
    "brachiosaurus": "4a3a81845e5559cce82c9d99422552b41281138c4a9d0a16944ec37587b82033",
}


@pytest.mark.parametrize("species", SPECIES)
def test_shipped_mirror_unchanged(species: str) -> None:
    cfg = compose([f"species={species}", "stage=balance"])
    mirror, digest = mirror_of(Animal(cfg.species, cfg.sim)), hashlib.sha256()
    for array in (*mirror.observation, *mirror.action):
        digest.update(str(array.dtype).encode() + array.tobytes())
    assert digest.hexdigest() == MIRRORS[species]


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_policy_is_mirror_equivariant(algo: str) -> None:
    cfg = compose(["species=trex", "stage=locomotion", f"algo={algo}", "sim.n_envs=64", "ppo.batch_size=64"])
    learner = make_learner(cfg)
    policy, mirror, everyone = learner.policy(), mirror_of(learner.batch.animal), np.ones(64, dtype=bool)
    seen = learner.batch.reset()
    assert 0 < mirror.second_half(seen).sum() < 64
    np.testing.assert_allclose(
        policy(mirror.shown(seen, everyone)), mirror.acted(policy(seen), everyone), rtol=0, atol=1e-5
    )


def test_mirror_env_folds_half_strides() -> None:
    cfg = compose(
        ["species=trex", "stage=locomotion", "sim.n_envs=16", "ppo.batch_size=64", "env.max_episode_steps=30"]
    )
    raw, plain = DinoVecEnv(cfg), DinoVecEnv(cfg)
    env = MirrorVecEnv(raw)
    mirror = env.mirror
    shown, seen = env.reset(), plain.reset()
    rng = np.random.default_rng(0)
    for _ in range(40):
        np.testing.assert_array_equal(shown, mirror.shown(seen, mirror.second_half(seen)))
        assert not mirror.second_half(shown).any()
        action = rng.uniform(-0.2, 0.2, (16, *env.action_space.shape)).astype(np.float32)
        where = mirror.second_half(seen)
        shown, reward, done, infos = env.step(action)
        seen, expected, ended, plain_infos = plain.step(mirror.acted(action, where))
        np.testing.assert_array_equal(reward, expected)
        np.testing.assert_array_equal(done, ended)
        for i in np.flatnonzero(done):
            last = plain_infos[i]["terminal_observation"][None]
            np.testing.assert_array_equal(
                infos[i]["terminal_observation"], mirror.shown(last, mirror.second_half(last))[0]
            )


def test_asymmetric_animal_refused_by_name() -> None:
    cfg = compose(["species=trex", "stage=balance"])
    limping = Animal(replace(cfg.species, gait_phase=[0.0, 0.3]), cfg.sim)
    with pytest.raises(ConfigError, match=r"gait_phase.*mirror=false"):
        mirror_of(limping)
    animal = Animal(cfg.species, cfg.sim)
    animal.model.joint("knee_l").range[:] = [-0.1, 0.1]
    with pytest.raises(ConfigError, match=r"joints knee_. and knee_. differ.*ppo\.policy_kwargs\.mirror=false"):
        mirror_of(animal)
