"""Gymnasium's contract: native vector environment, arguments, copies, time limits, infos."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dinorl.config import Config, compose
from dinorl.envs.gym_env import DinoEnv
from dinorl.envs.registration import environment_ids
from dinorl.envs.vector_env import DinoVectorEnv

NAME = "dinorl/TRex-Balance-v0"
N = 3
NU = 17  # actuators
LIMIT = 12  # control steps
MODES = list(AutoresetMode)


@pytest.fixture(scope="module")
def cfg() -> Config:
    return compose(["species=trex", "stage=balance"])


@pytest.fixture(scope="module")
def short(cfg: Config) -> dict[str, Any]:
    """Arguments of environments with short episodes."""
    return {"cfg": cfg, "max_episode_steps": LIMIT}


def plan(steps: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1.0, 1.0, (steps, n, NU)).astype(np.float32)


def trip(env: gym.Env | gym.vector.VectorEnv, *ids: int) -> None:
    """Let animals of a native or synchronous environment fall."""
    for i in ids:
        batch, row = (env.batch, i) if isinstance(env, DinoVectorEnv) else (env.envs[i].unwrapped.batch, 0)
        batch.sim.qpos[row, 2] = 0.2


def assert_same(one: Any, other: Any, at: str = "data") -> None:
    """Check that two results are equal, with keys and dtypes."""
    assert type(one) is type(other), at
    if isinstance(one, dict):
        assert set(one) == set(other), at
        for key in one:
            assert_same(one[key], other[key], f"{at}[{key!r}]")
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, at
        assert [repr(o) for o in one.tolist()] == [repr(o) for o in other.tolist()], at
    else:
        assert one == other, at


def reset_ended(env: gym.vector.VectorEnv, step: tuple[Any, ...]) -> tuple[Any, ...]:
    """Reset ended animals, if there are any, and return observations and infos."""
    ended = step[2] | step[3]
    return env.reset(options={"reset_mask": ended}) if ended.any() else ()


@pytest.mark.parametrize("mode", MODES)
def test_vector_env_equals_sync(mode: AutoresetMode, short: dict[str, Any]) -> None:
    native = DinoVectorEnv(N, **short, autoreset_mode=mode)
    sync = SyncVectorEnv([lambda: DinoEnv(**short)] * N, autoreset_mode=mode)
    assert native.metadata["autoreset_mode"] is mode
    for one, other in zip(native.reset(seed=5), sync.reset(seed=5), strict=True):
        assert_same(one, other)
    for k, actions in enumerate(plan(4 * LIMIT)):
        if k in (3, 20):
            trip(native, 0, 2) if k == 3 else trip(native, 1)
            trip(sync, 0, 2) if k == 3 else trip(sync, 1)
        one, other = native.step(actions), sync.step(actions)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b, f"step {k}")
        if mode is AutoresetMode.DISABLED:
            for a, b in zip(reset_ended(native, one), reset_ended(sync, other), strict=True):
                assert_same(a, b, f"reset after {k}")


def test_next_step_when_all_ended(short: dict[str, Any]) -> None:
    env = DinoVectorEnv(N, **short, autoreset_mode="NextStep")
    env.reset(seed=0)
    for actions in plan(LIMIT):
        _, _, terminated, truncated, _ = env.step(actions)
    assert (terminated | truncated).all()
    pose = env.batch.sim.qpos.copy()
    _, reward, terminated, truncated, info = env.step(np.full((N, NU), np.nan))
    assert not (reward.any() or terminated.any() or truncated.any() or info["reward_terms"]["alive_bonus"].any())
    assert (env.batch.sim.qpos != pose).any() and not env.batch.memory.steps.any()


def test_disabled_refuses_ended(short: dict[str, Any]) -> None:
    env = DinoVectorEnv(N, **short, autoreset_mode="Disabled")
    env.reset(seed=0)
    trip(env, 1)
    env.step(np.zeros((N, NU)))
    with pytest.raises(ResetNeeded, match=r"animals \[1\] have ended.*reset_mask"):
        env.step(np.zeros((N, NU)))
    env.reset(options={"reset_mask": np.array([False, True, False])})
    env.step(np.zeros((N, NU)))


@pytest.mark.parametrize("mode", MODES)
def test_reset_mask_is_partial(mode: AutoresetMode, short: dict[str, Any]) -> None:
    some, whole = (DinoVectorEnv(N, **short, autoreset_mode=mode) for _ in range(2))
    others = np.array([True, False, True])
    for env in (some, whole):
        env.reset(seed=0)
    for actions in plan(4):
        before = some.step(actions)[0].copy()
        whole.step(actions)
    observation, info = some.reset(seed=[None, 40, None], options={"reset_mask": ~others})
    np.testing.assert_array_equal(observation[others], before[others])
    np.testing.assert_array_equal(observation[1], whole.reset(seed=[0, 40, 0])[0][1])
    assert info["_is_success"].tolist() == info["_reward_terms"].tolist() == [False, True, False]
    whole.reset(seed=0)
    for actions in plan(4):
        whole.step(actions)
    for actions in plan(7):
        one, other = some.step(actions), whole.step(actions)
        for a, b in zip(one[:4], other[:4], strict=True):
            np.testing.assert_array_equal(a[others], b[others])


def test_returned_observation_is_copy(cfg: Config) -> None:
    env = DinoVectorEnv(N, cfg=cfg)
    env.reset(seed=0)
    seen = env.step(np.zeros((N, NU)))[0]
    kept = seen.copy()
    seen[:] = 7.0
    again = env.reset(options={"reset_mask": np.array([True, False, False])})[0]
    np.testing.assert_array_equal(again[1:], kept[1:])


def test_missing_seeds_are_random(cfg: Config) -> None:
    def first(seed: Any) -> np.ndarray:
        return DinoVectorEnv(N, cfg=cfg).reset(seed=seed)[0]

    for seed in (None, [None] * N):
        one, other = first(seed), first(seed)
        assert len({row.tobytes() for row in (*one, *other)}) == 2 * N
    np.testing.assert_array_equal(first([4, None, 6])[[0, 2]], first(4)[[0, 2]])


BAD_RESETS = [
    ({"seed": [1, 2]}, ValueError, "found 2 seeds, expected one for each of 3"),
    ({"seed": [1, 2, 3, 4]}, ValueError, "found 4 seeds"),
    ({"seed": [1, -2, 3]}, ValueError, "found -2, expected an integer ≥ 0"),
    ({"seed": -1}, ValueError, "found -1"),
    ({"seed": "12"}, TypeError, "found '12'"),
    ({"seed": 0.5}, TypeError, "found 0.5"),
    ({"options": {"reset_mask": [True, False, True]}}, TypeError, "found a list, expected a NumPy array of bool"),
    ({"options": {"reset_mask": np.array([1, 0, 1])}}, TypeError, "found an array of int64"),
    ({"options": {"reset_mask": np.array([True])}}, ValueError, r"found shape \(1,\), expected \(3,\)"),
    ({"options": {"reset_mask": np.zeros(N, dtype=bool)}}, ValueError, "found no True"),
    ({"options": {"rest_mask": 1}}, ValueError, r"found \['rest_mask'\], expected only \['reset_mask'\]"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD_RESETS)
def test_vector_reset_is_checked(arguments: dict[str, Any], kind: type, message: str, cfg: Config) -> None:
    env = DinoVectorEnv(N, cfg=cfg)
    before = env.reset(seed=0)[0]
    state = env.batch.state()
    with pytest.raises(kind, match=message):
        env.reset(**arguments)
    assert all(np.array_equal(value, state[name], equal_nan=True) for name, value in env.batch.state().items())
    np.testing.assert_array_equal(env.reset(seed=0)[0], before)


def test_first_reset_is_whole(cfg: Config) -> None:
    with pytest.raises(ResetNeeded, match="all animals"):
        DinoVectorEnv(N, cfg=cfg).reset(options={"reset_mask": np.array([True, False, True])})


@pytest.mark.parametrize("options", [{"reset_mask": np.array([True])}, {"seed": 3}])
def test_single_env_has_no_options(options: dict[str, Any], cfg: Config) -> None:
    with pytest.raises(ValueError, match=f"{list(options)[0]}.*expected none"):
        DinoEnv(cfg=cfg).reset(options=options)


BAD_ACTIONS = [
    (np.zeros(NU), "found shape"),
    (np.zeros((1, NU)), "found shape"),
    (np.zeros((N, NU - 1)), "found shape"),
    (np.full((N, NU), np.nan), r"NaN or infinity for animals \[0, 1, 2\]"),
    (np.array([[0.0] * NU, [np.inf] * NU, [0.0] * NU]), r"NaN or infinity for animals \[1\]"),
    ("left", "expected numbers"),
]


@pytest.mark.parametrize(("actions", "message"), BAD_ACTIONS)
def test_vector_actions_are_checked(actions: Any, message: str, cfg: Config) -> None:
    env = DinoVectorEnv(N, cfg=cfg)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert not env.batch.memory.steps.any()


@pytest.mark.parametrize("action", [np.zeros(NU - 1), np.zeros((1, NU)), 0.0, np.full(NU, np.nan)])
def test_single_action_is_checked(action: Any, cfg: Config) -> None:
    env = DinoEnv(cfg=cfg)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action: found"):
        env.step(action)


@pytest.mark.parametrize("make", [lambda cfg: DinoEnv(cfg=cfg), lambda cfg: DinoVectorEnv(N, cfg=cfg)])
def test_order_of_calls_enforced(make: Callable[[Config], Any], cfg: Config) -> None:
    env = make(cfg)
    action = np.zeros(env.action_space.shape)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
        env.step(action)
    env.reset()
    env.step(action)
    env.close()
    env.close()
    for call in (lambda: env.step(action), env.reset):
        with pytest.raises(ClosedEnvironmentError, match="make a new one"):
            call()


@pytest.mark.parametrize("name", sorted(environment_ids()))
def test_spec_has_stage_limit(name: str) -> None:
    species, stage = environment_ids()[name]
    assert gym.spec(name).max_episode_steps == compose([f"species={species}", f"stage={stage}"]).env.max_episode_steps
    assert gym.envs.registration.EnvSpec.from_json(gym.spec(name).to_json()).id == name


def truncations(env: Any, steps: int) -> list[int]:
    """Return the steps after which an animal that stands still is truncated."""
    env.reset(seed=0)
    found, action = [], np.zeros(env.action_space.shape)
    for k in range(1, steps + 1):
        _, _, terminated, truncated, _ = env.step(action)
        assert not np.any(terminated)
        if np.any(truncated):
            found.append(k)
            if isinstance(env, gym.Env):
                env.reset()
    return found


def test_default_limit_truncates_once() -> None:
    env = gym.make(NAME)
    assert env.spec.max_episode_steps == 1000
    assert truncations(env, 1001) == [1000]


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [({"max_episode_steps": 20}, [20, 40]), ({"max_episode_steps": 2000}, []), ({"max_episode_steps": -1}, [])],
)
@pytest.mark.parametrize("make", [gym.make, lambda *a, **k: gym.make_vec(*a, num_envs=1, **k)])
def test_made_limit_holds(make: Callable[..., Any], arguments: dict[str, int], limits: list[int]) -> None:
    env = make(NAME, **arguments)
    env.reset(seed=0)
    inner = env.unwrapped.batch
    if not limits:
        inner.memory.steps[:] = 1000
        assert not np.any(env.step(np.zeros(env.action_space.shape))[3])
    assert truncations(env, 45) == limits
    wanted = arguments["max_episode_steps"]
    if wanted > 0:
        assert env.spec.max_episode_steps == wanted


def test_config_limit_holds() -> None:
    still = compose(["species=trex", "stage=balance", "env.max_episode_steps=20", "env.push_speed=0"])
    for env in (gym.make(NAME, cfg=still), gym.make_vec(NAME, num_envs=2, cfg=still), DinoEnv(cfg=still)):
        assert truncations(env, 45) == [20, 40]
    assert truncations(DinoEnv(cfg=still, max_episode_steps=15), 45) == [15, 30, 45]
    longer = compose(["species=trex", "stage=balance", "env.max_episode_steps=1100"])
    envs = gym.make_vec(NAME, num_envs=2, cfg=longer)
    assert envs.unwrapped.batch.max_episode_steps == envs.spec.max_episode_steps == 1100


def test_shorter_made_limit_warns() -> None:
    longer = compose(["species=trex", "stage=balance", "env.max_episode_steps=1100", "env.push_speed=0"])
    env = gym.make(NAME, cfg=longer)
    with pytest.warns(UserWarning, match=r"cut the episode at 1000 steps.*max_episode_steps=1100"):
        assert truncations(env, 1000) == [1000]


@pytest.mark.parametrize("limit", [0, -2, 1.5, "20"])
def test_wrong_limit_refused(limit: Any, cfg: Config) -> None:
    with pytest.raises(ValueError, match="expected an integer ≥ 1, or -1"):
        DinoEnv(cfg=cfg, max_episode_steps=limit)


COPIES = [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))]


@pytest.mark.parametrize("copied", COPIES)
def test_copies_are_fresh(copied: Callable[[Any], Any], cfg: Config) -> None:
    for env in (
        DinoEnv(cfg=cfg, max_episode_steps=20, camera="side"),
        gym.make(NAME, max_episode_steps=20),
        DinoVectorEnv(2, cfg=cfg, max_episode_steps=20, autoreset_mode="NextStep"),
        gym.make_vec(NAME, num_envs=2, max_episode_steps=20, autoreset_mode="NextStep"),
    ):
        env.reset(seed=3)
        twin = copied(env)
        assert twin.metadata == env.metadata and twin.spec == env.spec
        np.testing.assert_array_equal(twin.reset(seed=8)[0], env.reset(seed=8)[0])
        assert truncations(twin, 21) == truncations(env, 21) == [20]


def keys(info: dict[str, Any]) -> dict[str, Any]:
    """Return the keys and types of an info."""
    return {key: keys(value) if isinstance(value, dict) else type(value) for key, value in info.items()}


def test_info_keys_never_change(short: dict[str, Any]) -> None:
    env = DinoEnv(**short)
    found = [keys(env.reset(seed=0)[1])]
    total, ended = 0.0, False
    while not ended:
        _, reward, terminated, truncated, info = env.step(np.zeros(NU))
        total, ended = total + reward, terminated or truncated
        found.append(keys(info))
        assert sum(info["reward_terms"].values()) == pytest.approx(total)
    assert all(one == found[0] for one in found) and len(found) == LIMIT + 1
    assert set(found[0]) == {"is_success", "diverged", "reward_terms"}


def test_divergence_is_in_info(cfg: Config) -> None:
    env = DinoEnv(cfg=cfg)
    env.reset(seed=0)
    env.batch.sim.qvel[0] = 1e12
    _, _, terminated, _, info = env.step(np.zeros(NU))
    assert terminated and info["diverged"] and not env.reset()[1]["diverged"]


@pytest.mark.parametrize("camera", ["side", 1])
def test_picture_arguments_work(camera: str | int, cfg: Config) -> None:
    drawn = {"cfg": cfg, "render_mode": "rgb_array", "width": 1400, "height": 96}
    track, other = DinoEnv(**drawn), DinoEnv(**drawn, camera=camera)
    for env in (track, other):
        env.reset(seed=0)
    assert other.render().shape == (96, 1400, 3) and (other.render() != track.render()).any()
    envs = DinoVectorEnv(2, **drawn, camera=camera)
    envs.reset(seed=0)
    assert len(envs.call("render")) == len(envs.render()) == 2
    np.testing.assert_array_equal(envs.render()[0], other.render())
    for env in (track, other, envs):
        env.close()


@pytest.mark.parametrize("arguments", [{"camera": "top"}, {"camera": 7}, {"camera": -1}, {"width": 0}, {"height": 1.5}])
def test_wrong_picture_refused(arguments: dict[str, Any], cfg: Config) -> None:
    (name,) = arguments
    listed = r".*\['track', 'side'\]" if name == "camera" else ""
    with pytest.raises(ValueError, match=f"{name}={next(iter(arguments.values()))!r}: expected.*{listed}"):
        DinoEnv(cfg=cfg, **arguments)


def test_vector_attributes_are_shared(cfg: Config) -> None:
    env = DinoVectorEnv(N, cfg=cfg)
    assert env.get_attr("push_scale") == (1.0,) * N
    assert env.get_attr("action_space") == (env.single_action_space,) * N
    env.set_attr("push_scale", 0.5)
    env.set_attr("bearing_scale", [2.0] * N)
    assert env.batch.push_scale == 0.5 and env.call("bearing_scale") == (2.0,) * N
    assert env.call("render") == (None,) * N
    assert len(env.call("state")) == N
    with pytest.raises(ValueError, match="found 2 values, expected one or 3"):
        env.set_attr("push_scale", [1.0, 2.0])
    with pytest.raises(ValueError, match="share it"):
        env.set_attr("push_scale", [1.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="acts on all animals"):
        env.call("reset")
    for call in (lambda: env.get_attr("push_scal"), lambda: env.set_attr("push_scal", 1.0)):
        with pytest.raises(AttributeError, match="'push_scal': found neither"):
            call()


@pytest.mark.parametrize("arguments", [{"autoreset_mode": "Never"}, {"num_envs": 0}, {"render_mode": "human"}])
def test_wrong_arguments_refused(arguments: dict[str, Any], cfg: Config) -> None:
    with pytest.raises(ValueError, match="expected"):
        DinoVectorEnv(**{"cfg": cfg, **arguments})


@pytest.mark.parametrize("mode", MODES)
def test_make_vec_takes_mode(mode: AutoresetMode) -> None:
    env = gym.make_vec(
        NAME, num_envs=2, vectorization_mode="vector_entry_point", autoreset_mode=mode.value, max_episode_steps=20
    )
    assert env.metadata["autoreset_mode"] is mode and env.spec.max_episode_steps == 20
    twin = gym.make_vec(env.spec)
    assert twin.num_envs == 2 and twin.metadata["autoreset_mode"] is mode
    assert gym.make_vec(NAME).metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_passive_checks_stay_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(NAME, max_episode_steps=5)
        assert truncations(env, 11) == [5, 10]
