"""Every task function agrees with NumPy on a second, strict array library, and stays on the device of its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
import torch
from array_api_compat import array_namespace

from dinorl.config import compose
from dinorl.envs.batch import BatchEnv
from dinorl.tasks import body as bodies
from dinorl.tasks import episode, events, observation, rewards, signals
from dinorl.tasks.body import Body, Columns
from dinorl.tasks.declare import Term
from dinorl.tasks.signals import Memory, Signals
from tests.conftest import SPECIES

# not the default: arrays without a device cannot mix
DEVICE = strict.Device("device1")
N = 6


class Moment:
    """Inputs of the task functions: animals after some steps of acting at random."""

    def __init__(self, species: str) -> None:
        cfg = compose([f"species={species}", "stage=behavior"])
        env = BatchEnv(cfg, N)
        env.seed(3)
        env.reset()
        rng = np.random.default_rng(0)
        size = env.action_space.shape[0]
        for _ in range(40):
            memory = env.memory
            env.step(rng.uniform(-0.4, 0.4, (N, size)), autoreset=False)
        sim = env.sim
        self.env, self.keys = cfg.env, cfg.species.event.keys
        self.body: Body = env.task.body
        self.memory: Memory = memory
        self.sensors, self.substeps = sim.sensors.copy(), sim.substeps.copy()
        self.qpos, self.qvel = sim.qpos.copy(), sim.qvel.copy()
        self.action, self.u = rng.uniform(-1.0, 1.0, (N, size)), rng.random((N, 4))
        self.steps = np.arange(N)
        self.signals: Signals = measured(self)


def measured(m: Moment) -> Signals:
    return signals.measure(m.body, m.memory, m.sensors, m.substeps, m.qpos, m.qvel, m.action)


def to_strict(array: np.ndarray) -> Any:
    """Return an array on the strict library and a device of its own."""
    return strict.asarray(array, device=DEVICE)


def to_meta(array: np.ndarray) -> Any:
    """Return a torch tensor without values, which refuses to mix with tensors of another device, as on CUDA."""
    return torch.from_numpy(array).to("meta")


def moved(value: Any, move: Callable[[np.ndarray], Any] = to_strict) -> Any:
    """Return the same with moved arrays."""
    if isinstance(value, np.ndarray):
        return move(value)
    if isinstance(value, Moment):
        other = object.__new__(Moment)
        vars(other).update({name: moved(part, move) for name, part in vars(value).items()})
        return other
    if is_dataclass(value) and isinstance(value, (Body, bodies.Layout, Memory, Signals)):
        parts = {f.name: moved(getattr(value, f.name), move) for f in fields(value)}
        xp = strict if move is to_strict else array_namespace(move(np.zeros(1)))
        return replace(value, **parts | ({"xp": xp} if isinstance(value, Signals) else {}))
    return value


def shaped(found: Any, expected: Any, name: str) -> None:
    """Check that results are on torch's meta device, with NumPy's shapes and types."""
    if is_dataclass(expected):
        for field in fields(expected):
            if field.name != "xp":
                shaped(getattr(found, field.name), getattr(expected, field.name), f"{name}.{field.name}")
    elif isinstance(expected, tuple):
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            shaped(one, other, f"{name}[{i}]")
    else:
        assert found.device.type == "meta" and found.shape == expected.shape, name
        assert str(found.dtype).removeprefix("torch.") == str(expected.dtype), name


def same(found: Any, expected: Any, name: str) -> None:
    """Check two results piece by piece: values, types, and that the strict one stayed on its device."""
    if is_dataclass(expected):
        for field in fields(expected):
            if field.name != "xp":
                same(getattr(found, field.name), getattr(expected, field.name), f"{name}.{field.name}")
    elif isinstance(expected, tuple):
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            same(one, other, f"{name}[{i}]")
    else:
        assert isinstance(found, type(strict.asarray(0.0))), name
        assert found.device == DEVICE, name
        found = np.asarray(strict.asarray(found, device=strict.Device("CPU_DEVICE")))
        assert found.dtype == expected.dtype, name
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=name)


ENDS = [2.0, 6.0]
# Example calls of unregistered public functions.
CALLS: dict[Callable[..., Any], Callable[[Moment], Any]] = {
    bodies.pick: lambda m: (bodies.pick(m.qpos, m.body.joint_qpos), bodies.pick(m.sensors, m.body.layout.foot_touch)),
    signals.rows: lambda m: (signals.rows(m.memory, m.steps[1:3]), signals.rows(m.signals, m.steps[1:3])),
    signals.to_heading: lambda m: signals.to_heading(m.signals.effector_h, m.signals.heading_w),
    signals.fresh_memory: lambda m: signals.fresh_memory(m.body, m.sensors, m.action.shape[1], m.u[:, 0]),
    signals.measure: measured,
    signals.remember: lambda m: signals.remember(m.memory, m.signals),
    signals.count_event: lambda m: signals.count_event(m.memory.event_steps, m.u[:, 0], 0.5),
    signals.tick: lambda m: signals.tick(m.body, m.memory, 1.5),
    signals.turn_phase: lambda m: signals.turn_phase(m.u[:, 0], m.u[:, 1], m.u[:, 2]),
    signals.take_turns: lambda m: signals.take_turns(
        m.body, replace(m.memory, last_touchdown=m.memory.airborne), m.signals.touchdown | (m.signals.stance > 0.5)
    ),
    observation.clock: lambda m: observation.clock(m.signals.xp, m.signals.phase),
    observation.observe: lambda m: observation.observe(m.signals),
    episode.spread: lambda m: episode.spread(m.u, ENDS),
    episode.turn: lambda m: episode.turn(m.signals.heading_w, m.u[:, 0], ENDS),
    episode.place_target: lambda m: episode.place_target(
        m.signals.position_w, m.signals.heading_w, m.u[:, :3], ENDS, ENDS, ENDS
    ),
    episode.follow: lambda m: episode.follow(m.memory.action, m.action, 0.02, 0.1),
    episode.push_velocity: lambda m: episode.push_velocity(m.steps, m.u[:, :2] * 0.0, 4, 0.5),
    episode.fallen: lambda m: episode.fallen(m.signals, m.env.healthy_z_range, 0.4, 0.0, 0.2),
    events.happened: lambda m: events.happened(m.signals, 0),
    rewards.gait_speed: lambda m: rewards.gait_speed(m.signals, 1.5),
}
# They take and return no arrays.
NO_ARRAYS = {bodies.namespace, observation.part_counts, observation.columns, episode.push_window}
TERMS = {**rewards.TERMS, **events.EVENT_TERMS}


@pytest.fixture(scope="module", params=SPECIES)
def moment(request: pytest.FixtureRequest) -> Moment:
    return Moment(request.param)


@pytest.fixture(scope="module")
def strict_moment(moment: Moment) -> Moment:
    return moved(moment)


@pytest.fixture(scope="module")
def meta_moment(moment: Moment) -> Moment:
    return moved(moment, to_meta)


def test_every_function_listed() -> None:
    registered = {term.function for term in TERMS.values()}
    for module in (bodies, signals, observation, episode, rewards, events):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                assert function in {*CALLS, *NO_ARRAYS, *registered}, f"{module.__name__}.{name} has no example call"


@pytest.mark.parametrize("call", CALLS.values(), ids=[function.__name__ for function in CALLS])
def test_function_agrees(call: Callable[[Moment], Any], moment: Moment, strict_moment: Moment) -> None:
    same(call(strict_moment), call(moment), "result")


@pytest.mark.parametrize("term", TERMS.values(), ids=list(TERMS))
def test_reward_term_agrees(term: Term, moment: Moment, strict_moment: Moment) -> None:
    found, expected = (term.bind(m.env, m.body, m.keys)(m.signals) for m in (strict_moment, moment))
    assert expected.shape == (N,)
    same(found, expected, term.name)


@pytest.mark.parametrize("call", CALLS.values(), ids=[function.__name__ for function in CALLS])
def test_function_stays_on_device(call: Callable[[Moment], Any], moment: Moment, meta_moment: Moment) -> None:
    shaped(call(meta_moment), call(moment), "result")


@pytest.mark.parametrize("term", TERMS.values(), ids=list(TERMS))
def test_reward_term_stays_on_device(term: Term, moment: Moment, meta_moment: Moment) -> None:
    found, expected = (term.bind(m.env, m.body, m.keys)(m.signals) for m in (meta_moment, moment))
    shaped(found, expected, term.name)


def test_signals_are_no_views(moment: Moment) -> None:
    """What was measured must not change when the simulation goes on."""
    for field in fields(Signals):
        value = getattr(moment.signals, field.name)
        for live in (moment.sensors, moment.substeps, moment.qpos, moment.qvel):
            assert field.name == "xp" or not np.shares_memory(value, live), field.name


@pytest.mark.parametrize("columns", [slice(1, 6, 2), np.array([1, 3, 5])], ids=["slice", "index"])
def test_pick_any_columns(columns: Columns) -> None:
    array = np.arange(24.0).reshape(2, 2, 6)
    np.testing.assert_array_equal(bodies.pick(array, columns), array[:, :, [1, 3, 5]])
