"""A batch of one, which is compiled, does what any batch does, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from dinorl.config import Config, compose
from dinorl.envs.batch import BatchEnv
from dinorl.tasks.signals import Signals
from tests.conftest import SPECIES

Term = Callable[[Signals], Any]
MANY = 3


@pytest.fixture(params=SPECIES)
def cfg(request: pytest.FixtureRequest) -> Config:
    short = ["env.max_episode_steps=60", "env.push_speed=0.5", "env.push_interval=0.4", "env.max_tilt_angle=0.08"]
    return compose([f"species={request.param}", "stage=behavior", *short])


def began(cfg: Config, n: int) -> BatchEnv:
    """Return a batch in which every reward term is paid."""
    env = BatchEnv(cfg, n)
    for k, key in enumerate(env.task.weights):
        env.task.set_weight(key, 0.5 + 0.1 * k)
    env.seed(7)
    env.reset()
    return env


def lived(env: BatchEnv, steps: int = 150, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield all that is known of the first animal, step by step."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        action = rng.uniform(-1.0, 1.0, (1, *env.action_space.shape))
        step = env.step(np.repeat(action, env.n, axis=0))
        for value in (step.observation, step.reward, step.terminated, step.truncated, step.success, step.diverged):
            yield value[0].copy()
        for value in (*vars(env.memory).values(), *(env.sums[name] for name in env.task.names)):
            yield value[0].copy()
        for field in fields(Signals):  # measured after the reset, if there was one
            if field.name != "xp":
                yield getattr(env.signals, field.name)[0].copy()


def same(one: Iterator[np.ndarray], many: Iterator[np.ndarray]) -> None:
    for found, expected in zip(one, many, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_one_animal_equals_many(cfg: Config) -> None:
    one, many = began(cfg, 1), began(cfg, MANY)
    same(lived(one), lived(many))
    assert one._alone is not None and many._alone is None
    assert one.episode[0] > 2, "it never fell"


def test_changed_weight_is_paid(cfg: Config) -> None:
    envs = began(cfg, 1), began(cfg, MANY)
    same(*(lived(env, 5) for env in envs))
    for env in envs:
        env.task.set_weight("alive_bonus", 9.0)
        env.task.set_weight("heading_weight", 0.0)
    same(*(lived(env, 5) for env in envs))


def test_restored_animal_goes_on(cfg: Config) -> None:
    first, second = began(cfg, 1), began(cfg, 1)
    list(lived(first, 20))
    second.restore(first.state())
    same(lived(second, 70, seed=1), lived(first, 70, seed=1))


@pytest.mark.parametrize("term", [
    lambda s: np.tanh(s.pitch), lambda s: s.height if (s.height > 0.5).all() else s.pitch,
    lambda s: 1.0 / (s.pitch - s.pitch), lambda s: s.xp.sqrt(-s.height),
], ids=["untraceable", "decides", "divides by zero", "root"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_any_term_is_paid(term: Term) -> None:
    envs = [BatchEnv(compose(["species=trex", "stage=balance"]), n) for n in (1, MANY)]
    for env in envs:
        env.task.terms["posture"] = term
        env.task.set_weight("posture_weight", 1.0)
        env.seed(7)
        env.reset()
    same(*(lived(env, 10) for env in envs))
