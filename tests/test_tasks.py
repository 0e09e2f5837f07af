"""Reward terms, memory and targets on hand-made states with known answers."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from dinorl.config import compose
from dinorl.envs.batch import BatchEnv
from dinorl.envs.task import Task
from dinorl.sim.model import Animal
from dinorl.tasks import episode, events
from dinorl.tasks import rewards as terms
from dinorl.tasks.body import Body
from dinorl.tasks.declare import Parameter, Terms
from dinorl.tasks.events import EVENT_TERMS
from dinorl.tasks.parameters import env_parameters, event_parameters
from dinorl.tasks.rewards import TERMS
from dinorl.tasks.signals import Memory, Signals, count_event, remember, rows, take_turns, to_heading
from tests.conftest import SPECIES

FAST = 4.0  # m/s, forward_vel_max
BODY = Task(cfg := compose(["species=trex", "stage=balance"]), Animal(cfg.species, cfg.sim)).body


@pytest.fixture(scope="module")
def standing() -> Signals:
    """Two T. rexes at home, looking at a target straight ahead."""
    env = BatchEnv(compose(["species=trex", "stage=balance", "env.push_speed=0", "env.reset_noise_scale=0",
                            "env.prey_lateral_range=[0,0]"]), 2)  # fmt: skip
    env.reset()
    for _ in range(100):
        env.step(np.zeros((2, env.action_space.shape[0])))
    return env.signals


def moving(s: Signals, forward: float = 0.0, left: float = 0.0) -> Signals:
    n = s.height.shape[0]
    return replace(s, velocity_h=np.tile([forward, left, 0.0], (n, 1)))


def test_standing_earns_no_motion_reward(standing: Signals) -> None:
    still = moving(replace(standing, alternation=np.ones_like(standing.alternation)))
    for paid in (
        terms.forward_vel(still, FAST), terms.gait_symmetry(still, 1.0), terms.gait_clock(still, 0.5, 1.0, BODY),
        terms.heading(still),
    ):  # fmt: skip
        np.testing.assert_allclose(paid, 0.0, atol=1e-3)
    np.testing.assert_allclose(terms.idle_penalty(still, 0.5), -1.0)


def test_forward_reward_capped_backward_penalized(standing: Signals) -> None:
    speeds = (-2.0, 0.0, 1.5, 4.0, 9.0)
    paid = [terms.forward_vel(moving(standing, v), FAST)[0] for v in speeds]
    assert paid == [0.0, 0.0, 1.5, 4.0, 4.0]
    assert terms.forward_vel(moving(standing, 9.0), None)[0] == 9.0
    assert [terms.backward_vel_penalty(moving(standing, v))[0] for v in speeds] == [-2.0, 0.0, 0.0, 0.0, 0.0]
    assert terms.lateral_penalty(moving(standing, 3.0, -0.7))[0] == pytest.approx(-0.7)
    assert terms.speed_penalty(moving(standing, 0.3, 0.4), 0.1)[0] == pytest.approx(-0.4)
    assert terms.speed_penalty(moving(standing, 0.05), 0.1)[0] == 0.0


def test_heading_is_cosine_minus_one(standing: Signals) -> None:
    for angle in (0.0, np.pi / 3, np.pi / 2, np.pi):
        target = np.tile([5 * np.cos(angle), 5 * np.sin(angle), 0.0], (2, 1))
        s = replace(standing, target_h=target, target_distance=np.full(2, 5.0))
        np.testing.assert_allclose(terms.heading(s), np.cos(angle) - 1.0, atol=1e-12)


def test_nosedive_relative_to_natural_pitch(standing: Signals) -> None:
    for pitch, natural, expected in ((0.3, 0.0, -0.3), (-0.3, 0.0, 0.0), (0.3, 0.2, -0.1), (-0.1, -0.15, -0.05)):
        s = replace(standing, pitch=np.full(2, pitch))
        np.testing.assert_allclose(terms.nosedive(s, natural), expected, atol=1e-12)
        mirrored = replace(standing, pitch=np.full(2, -pitch))
        np.testing.assert_allclose(terms.rearing(mirrored, -natural), expected, atol=1e-12)
    level = replace(standing, pitch=np.full(2, 0.2), roll=np.zeros(2))
    np.testing.assert_allclose(terms.posture(level, 0.2), 1.0)


def test_alive_bonus_gated_by_contact(standing: Signals) -> None:
    s = replace(standing, stance=np.array([[1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(terms.alive(s, 0.0), 1.0)
    np.testing.assert_allclose(terms.alive(s, 1.0), [0.5, 0.0])
    np.testing.assert_allclose(terms.foot_contact(s), [0.5, 0.0])


def test_gait_clock_rewards_timed_alternation(standing: Signals) -> None:
    s = moving(replace(standing, phase=np.array([0.25, 0.75])), 2.0)
    left_then_right = replace(s, stance=np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(terms.gait_clock(left_then_right, 0.5, 1.0, BODY), 1.0)
    np.testing.assert_allclose(terms.gait_clock(replace(s, stance=np.ones((2, 2))), 0.5, 1.0, BODY), 0.0)
    wrong = replace(s, stance=np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(terms.gait_clock(wrong, 0.5, 1.0, BODY), -1.0)


def memory_of(n: int) -> Memory:
    return Memory(
        steps=np.zeros(n, dtype=np.int64), start_w=np.zeros((n, 2)), action=np.zeros((n, 1)),
        airborne=np.zeros((n, 2), dtype=np.int64), last_touchdown=np.full((n, 2), -1), alternation=np.zeros((n, 1)),
        phase=np.zeros(n), target_distance=np.zeros(n), nearest=np.zeros(n), event_steps=np.zeros(n, dtype=np.int64),
    )  # fmt: skip


def alternation_of(contacts: list[tuple[bool, bool]], standing: Signals) -> float:
    """Return the running alternation after a course of (left, right) contacts, one a control step."""
    memory = memory_of(1)
    one = rows(standing, np.array([0]))
    for step, pair in enumerate(contacts, 1):
        contact = np.array([pair])
        memory = replace(memory, steps=np.array([step]))
        landed = contact & (memory.airborne >= 2)
        last, share = take_turns(BODY, memory, landed)
        seen = {"contact": contact, "touchdown": landed, "last_touchdown": last, "alternation": share}
        memory = remember(memory, replace(one, **seen, action=np.zeros((1, 1))))
    return float(memory.alternation[0, 0])


def test_alternation_separates_walk_from_hop(standing: Signals) -> None:
    step_left, step_right = [(True, False)] * 12, [(False, True)] * 12
    walk = (step_left + step_right) * 4
    hop = ([(True, True)] * 12 + [(False, False)] * 12) * 4
    left_a_little_before = ([(True, False)] * 2 + [(True, True)] * 10 + [(False, False)] * 12) * 4
    one_leg = ([(True, False)] * 12 + [(False, False)] * 12) * 4
    assert alternation_of(walk, standing) > 0.7
    assert alternation_of(hop, standing) == 0.0
    assert alternation_of(left_a_little_before, standing) < 0.1
    assert alternation_of(one_leg, standing) == 0.0
    assert alternation_of(walk + [(True, True)] * 250, standing) < 0.1


def test_flickering_contact_no_touchdown(standing: Signals) -> None:
    flicker = [(True, True), (False, True), (True, True), (True, False)] * 20
    assert alternation_of(flicker, standing) == 0.0


def test_vectors_rotate_to_heading_frame() -> None:
    heading = np.array([[0.0, 1.0], [-1.0, 0.0]])
    world = np.array([[0.0, 2.0, 3.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(to_heading(world, heading), [[2.0, 0.0, 3.0], [-1.0, 0.0, 0.0]], atol=1e-12)


def test_targets_placed_within_ranges() -> None:
    rng = np.random.default_rng(0)
    yaw = rng.uniform(-np.pi, np.pi, 500)
    heading, position = np.stack([np.cos(yaw), np.sin(yaw)], axis=1), rng.normal(size=(500, 2))
    target = episode.place_target(position, heading, rng.random((500, 3)), [2.0, 6.0], [-1.5, 1.5], [2.0, 3.5])
    offset = to_heading(target - np.pad(position, ((0, 0), (0, 1))), heading)
    for column, (low, high) in enumerate(((2.0, 6.0), (-1.5, 1.5), (2.0, 3.5))):
        assert low <= offset[:, column].min() < low + 0.1 and high - 0.1 < offset[:, column].max() <= high


def test_first_target_bearing_bounded() -> None:
    rng = np.random.default_rng(0)
    yaw = rng.uniform(-np.pi, np.pi, 2000)
    turned = episode.turn(np.stack([np.cos(yaw), np.sin(yaw)], axis=1), rng.random(2000), [-1.6, 1.6])
    angle = (np.arctan2(turned[:, 1], turned[:, 0]) - yaw + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(np.hypot(*turned.T), 1.0)
    assert -1.6 <= angle.min() < -1.59 and 1.59 < angle.max() <= 1.6 and abs(angle.mean()) < 0.06
    env = BatchEnv(compose(["species=trex", "stage=behavior"]), 256)
    env.reset()
    target = env.sim.target[:, :2] - env.sim.qpos[:, :2]
    facing = 2.0 * np.arctan2(env.sim.qpos[:, 6], env.sim.qpos[:, 3])
    bearing = (np.arctan2(target[:, 1], target[:, 0]) - facing + np.pi) % (2 * np.pi) - np.pi
    assert bearing.min() < -1.4 and bearing.max() > 1.4


def test_push_rate_and_speed() -> None:
    n, window = 5000, episode.push_window(dt=0.02, interval=2.0)
    assert window == 100
    u = np.random.default_rng(0).random((3, n, 2))  # three windows
    changes = np.stack(
        [episode.push_velocity(np.full(n, k), u[k // window], window, speed=0.5) for k in range(3 * window)]
    )
    when, who = np.nonzero(changes.any(axis=2))
    assert (np.bincount(who) == 3).all(), "one push in every window"
    moments = np.sort(when[np.argsort(who, kind="stable")].reshape(n, 3), axis=1)
    gaps = np.diff(moments, axis=1)
    assert window / 2 <= gaps.min() and gaps.max() <= 1.5 * window and gaps.mean() == pytest.approx(window, abs=1.0)
    pushes = changes[when, who]
    np.testing.assert_allclose(np.linalg.norm(pushes, axis=1), 0.5)
    assert np.abs(pushes.mean(axis=0)).max() < 0.02


@pytest.mark.parametrize("height, tilt, pitch, down", [
    (0.9, 0.0, 0.0, False), (0.3, 0.0, 0.0, True), (1.5, 0.0, 0.0, True), (0.9, 1.0, 0.0, True), (0.9, 0.4, 0.4, True),
    (0.9, 0.4, -0.4, False),
])  # fmt: skip
def test_fall_detection_limits(standing: Signals, height: float, tilt: float, pitch: float, down: bool) -> None:
    s = replace(standing, height=np.full(2, height), tilt=np.full(2, tilt), pitch=np.full(2, pitch))
    assert episode.fallen(s, [0.5, 1.2], 0.8, 0.0, 0.35).tolist() == [down, down]


@pytest.mark.parametrize("species", SPECIES)
def test_declared_parameters_are_config_keys(species: str) -> None:
    cfg = compose([f"species={species}", "stage=behavior"])
    keys = cfg.species.event.keys
    declared = [*env_parameters(), *event_parameters(keys)]
    assert sorted(p.name for p in declared) == sorted(f.name for f in fields(cfg.env))
    for parameter in declared:
        value, (low, above, high) = getattr(cfg.env, parameter.name), (parameter.ge, parameter.gt, parameter.le)
        if isinstance(value, (int, float)):
            assert (
                (low is None or value >= low) and (above is None or value > above) and (high is None or value <= high)
            )
    weights = {p.name for p in declared if p.name.endswith(("_weight", "_bonus"))}
    assert weights == set(TERMS) | {keys[role] for role in EVENT_TERMS}


def test_term_arguments_checked() -> None:
    registry, limit = Terms(), Parameter("limit")

    def speed(s: Signals, limit: float, body: Body) -> float:
        return limit

    registry.term("speed_weight", limit)(speed)
    assert registry["speed_weight"].name == "speed" and registry["speed_weight"].parameters == (limit,)
    with pytest.raises(TypeError, match=r"speed: expected arguments \['s'\], found \['s', 'limit'\]"):
        registry.term("other_weight")(speed)
    with pytest.raises(TypeError, match="speed_weight weighs speed"):
        registry.term("speed_weight", limit)(speed)


def test_zero_weight_terms_skipped() -> None:
    cfg = compose(["species=trex", "stage=balance", "env.alive_bonus=2.5", "env.posture_weight=0"])
    env = BatchEnv(cfg, 2)
    env.reset()
    step = env.step(np.zeros((2, env.action_space.shape[0])))
    assert env.sums["alive_bonus"].tolist() == [2.5, 2.5]
    assert "posture" not in env.task.active() and np.isfinite(step.reward).all()


def test_event_detected_mid_control_step(standing: Signals) -> None:
    def happened(nearest: float) -> list[bool]:
        steps = count_event(np.zeros(2, dtype=np.int64), np.array([nearest, 0.3]), 0.0)
        return events.happened(replace(standing, event_steps=steps), hold=0).tolist()

    assert happened(0.01) == [False, False]
    assert happened(-0.01) == [True, False]


@pytest.mark.parametrize("species", SPECIES)
def test_event_ends_third_stage_only(species: str) -> None:
    for stage, ends in (("locomotion", False), ("behavior", True)):
        cfg = compose([f"species={species}", f"stage={stage}", "env.reset_noise_scale=0", "env.event_hold=0"])
        env = BatchEnv(cfg, 2)
        env.reset()
        effector = env.sim.sensors[:, env.animal.layout.effector_pos[0]].copy()
        env.sim.target[0] = effector[0]  # the target comes to the first animal's effector
        step = env.step(np.zeros((2, env.action_space.shape[0])))
        assert step.success.tolist() == [True, False]
        assert step.terminated.tolist() == [ends, False]
        if not ends:  # it moved on, visibly
            assert env.sim.target[0, 0] != effector[0, 0]
            assert np.hypot(*(env.sim.target[0] - env.sim.qpos[0, :3])[:2]) > 1.4


@pytest.mark.parametrize(("hold", "steps"), [(0.0, 1), (0.1, 6)])
def test_fall_onto_target_earns_nothing(hold: float, steps: int) -> None:
    """Both animals touch the target; the second falls within ``event_hold``."""
    env = BatchEnv(compose(["species=trex", "stage=behavior", "env.reset_noise_scale=0", f"env.event_hold={hold}"]), 2)
    env.reset()
    for i in range(2):
        env.sim.target[i] = env.sim.sensors[i, env.animal.layout.effector_pos[0]]
    ended = np.zeros(2)
    for k in range(1, steps + 1):
        if k == steps:
            env.sim.qpos[1, 2] = 0.2  # far below what is healthy
        step = env.step(np.zeros((2, env.action_space.shape[0])))
        env.sim.target[:] += 5.0  # one touch is enough
        ended[step.terminated] = k
        if k < steps:
            assert not step.terminated.any() and not step.success.any()
    assert step.success.tolist() == [True, False] and ended.tolist() == [steps, steps]
    assert step.episodes.terms["bite_bonus"].tolist() == [200.0, 0.0]  # the second loses its bonus


def test_slip_penalizes_loaded_feet_only(standing: Signals) -> None:
    s = replace(standing, foot_speed=np.array([[2.0, 3.0], [2.0, 3.0]]), stance=np.array([[0.5, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(terms.foot_slip_penalty(s), [-0.5, -2.5])


def test_short_swing_penalty_at_touchdown(standing: Signals) -> None:
    np.testing.assert_allclose(terms.short_swing_penalty(standing, 2.0, 0.5), 0.0)
    air = np.array([[0.125, 0.3], [0.0, 0.1]])
    s = replace(standing, touchdown=np.array([[True, True], [True, False]]), air_time=air)
    np.testing.assert_allclose(terms.short_swing_penalty(s, 2.0, 0.5), [-0.25, -0.5])
    np.testing.assert_allclose(terms.short_swing_penalty(s, 0.0, 0.5), 0.0)  # no clock


def test_progress_paid_only_once() -> None:
    """The prey moves nearer to the jaws, away, back again, and closest."""
    env = BatchEnv(compose(["species=trex", "stage=behavior", "env.reset_noise_scale=0"]), 1)
    env.reset()
    jaws = env.sim.sensors[0, env.animal.layout.effector_pos[0]].copy()
    nearest, paid = np.inf, []
    for ahead in (0.6, 0.56, 3.0, 0.6, 0.5, 0.1, 0.0):
        env.sim.target[0] = jaws + (ahead, 0.0, 0.0)
        env.step(np.zeros((1, env.action_space.shape[0])))
        s = env.signals
        distance = env.animal.layout.target_distance
        closest = max(min(env.sim.substeps[0][:, distance].min(), s.effector_distance[0]), 0.0)
        expected = 0.0 if nearest == np.inf else max(nearest - closest, 0.0) / 0.02
        if nearest < np.inf:
            np.testing.assert_allclose(s.progress_speed, expected, atol=1e-9)
            paid.append(events.progress(s, FAST)[0])
        nearest = min(nearest, closest)
        assert s.nearest[0] <= nearest + 1e-9
    near, away, back, nearer, over, under = paid
    assert near > 0.0 and away == back == 0.0 and nearer > 0.0
    assert over == FAST and under == 0.0  # inside of the prey nothing is nearer


def test_gait_full_speed_scales_reward(standing: Signals) -> None:
    s = replace(standing, alternation=np.ones_like(standing.alternation))
    assert terms.gait_symmetry(moving(s, 1.0), 1.0)[0] == pytest.approx(1.0)
    assert terms.gait_symmetry(moving(s, 1.0), 4.0)[0] == pytest.approx(0.25)


def test_servo_target_first_order_lag() -> None:
    command = np.zeros((1, 3))
    for _ in range(5):
        command = episode.follow(command, np.ones((1, 3)), 0.02, 0.1)
    np.testing.assert_allclose(command, 1.0 - np.exp(-1.0))  # one time constant later
    np.testing.assert_array_equal(episode.follow(command, np.ones((1, 3)), 0.02, 0.0), 1.0)


def test_repeated_touchdown_avoids_zero_division() -> None:
    memory = replace(memory_of(1), steps=np.array([7]), last_touchdown=np.array([[7, 3]]))
    with np.errstate(all="raise"):
        last, share = take_turns(BODY, memory, np.array([[False, False]]))
    assert last.tolist() == [[7, 3]] and share[0, 0] == 0.0
