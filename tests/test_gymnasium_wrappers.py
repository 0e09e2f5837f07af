"""Gymnasium's vector wrappers on the native vector environment, in every autoreset mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TransformAction as SingleTransformAction
from gymnasium.wrappers import TransformObservation as SingleTransformObservation
from gymnasium.wrappers import TransformReward as SingleTransformReward
from gymnasium.wrappers import vector

from dinorl.config import Config, compose
from dinorl.envs.gym_env import DinoEnv
from dinorl.envs.vector_env import DinoVectorEnv

N, LIMIT, NU = 2, 6, 17  # animals, control steps, actuators
Make = Callable[[VectorEnv], VectorEnv]


def scaled(env: VectorEnv) -> Box:
    """Return the space of one animal's observations as float64."""
    return Box(-np.inf, np.inf, env.single_observation_space.shape, np.float64)


WRAPPERS: dict[str, Make] = {
    "ClipAction": vector.ClipAction,
    "ClipReward": lambda env: vector.ClipReward(env, -1.0, 1.0),
    "DictInfoToList": vector.DictInfoToList,
    "DtypeObservation": lambda env: vector.DtypeObservation(env, np.float64),
    "FlattenObservation": vector.FlattenObservation,
    "NormalizeObservation": vector.NormalizeObservation,
    "NormalizeReward": vector.NormalizeReward,
    "NumpyToTorch": vector.NumpyToTorch,
    "RecordEpisodeStatistics": vector.RecordEpisodeStatistics,
    "RescaleAction": lambda env: vector.RescaleAction(env, np.float32(-2.0), np.float32(2.0)),
    "ReshapeObservation": lambda env: vector.ReshapeObservation(env, (1, *env.single_observation_space.shape)),
    "TransformAction": lambda env: vector.TransformAction(env, lambda action: 0.5 * action),
    "TransformObservation": lambda env: vector.TransformObservation(env, lambda seen: 0.5 * seen),
    "TransformReward": lambda env: vector.TransformReward(env, lambda reward: 0.5 * reward),
    "VectorizeTransformAction": lambda env: vector.VectorizeTransformAction(
        env, SingleTransformAction, func=lambda action: 0.5 * action, action_space=env.single_action_space
    ),
    "VectorizeTransformObservation": lambda env: vector.VectorizeTransformObservation(
        env, SingleTransformObservation, func=lambda seen: 0.5 * seen, observation_space=scaled(env)
    ),
    "VectorizeTransformReward": lambda env: vector.VectorizeTransformReward(
        env, SingleTransformReward, func=lambda reward: 0.5 * reward
    ),
}
# For pictures, dictionaries or bounds, or for packages that dinorl does not need.
UNFIT = {
    "ArrayConversion", "FilterObservation", "GrayscaleObservation", "HumanRendering", "JaxToNumpy", "JaxToTorch",
    "RecordVideo", "RescaleObservation", "ResizeObservation",
}  # fmt: skip
# Gymnasium's own limits: these refuse SAME_STEP (NumpyToTorch when an episode ends), the first DISABLED too.
REFUSED = {
    AutoresetMode.NEXT_STEP: set(),
    AutoresetMode.DISABLED: {"NormalizeObservation"},
    AutoresetMode.SAME_STEP: {
        "DtypeObservation", "FlattenObservation", "NormalizeObservation", "NumpyToTorch", "ReshapeObservation",
        "TransformObservation", "VectorizeTransformObservation",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def short() -> dict[str, Any]:
    cfg: Config = compose(["species=trex", "stage=balance"])
    return {"cfg": cfg, "max_episode_steps": LIMIT}


def played(env: VectorEnv) -> list[Any]:
    """Return observations, rewards and ends of two episodes with random actions."""
    disabled = env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    env.reset(seed=1)
    env.action_space.seed(1)
    data: list[Any] = []
    for _ in range(2 * LIMIT + 2):
        actions = env.action_space.sample()
        step = env.step(torch.as_tensor(actions) if isinstance(env, vector.NumpyToTorch) else actions)
        data.append([np.asarray(part).copy() for part in step[:4]])
        ended = np.asarray(step[2]) | np.asarray(step[3])
        if disabled and ended.any():
            env.reset(options={"reset_mask": ended})
    return data


def test_every_wrapper_considered() -> None:
    assert set(WRAPPERS) | UNFIT == set(vector.__all__)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_wrapper_same_as_sync(name: str, mode: AutoresetMode, short: dict[str, Any]) -> None:
    native = DinoVectorEnv(N, **short, autoreset_mode=mode)
    sync = SyncVectorEnv([lambda: DinoEnv(**short)] * N, autoreset_mode=mode)
    if name in REFUSED[mode]:
        for env in (native, sync):
            with pytest.raises((ValueError, BufferError)):
                played(WRAPPERS[name](env))
        return
    one, other = played(WRAPPERS[name](native)), played(WRAPPERS[name](sync))
    for a, b in zip(one, other, strict=True):
        for part, expected in zip(a, b, strict=True):
            np.testing.assert_array_equal(part, expected)


def test_statistics_count_episodes(short: dict[str, Any]) -> None:
    for mode in AutoresetMode:
        env = vector.RecordEpisodeStatistics(DinoVectorEnv(N, **short, autoreset_mode=mode))
        played(env)
        assert env.episode_count == 2 * N and set(env.length_queue) == {LIMIT}, mode


def test_make_vec_wraps() -> None:
    env = gym.make_vec("dinorl/TRex-Balance-v0", num_envs=N, autoreset_mode="NextStep", max_episode_steps=LIMIT)
    assert played(vector.NormalizeReward(vector.NormalizeObservation(env)))
