"""SAC's update against Stable-Baselines3's, and what it shares with the batch's steps."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small import small
from stable_baselines3 import SAC

from dinorl.config import Config
from dinorl.learners import replay
from dinorl.learners.base import make_learner
from dinorl.learners.sac import SACLearner, act

CPU = torch.device("cpu")


class Silent:
    """Hooks that do nothing."""

    def training_started(self) -> None: ...

    def rollout_started(self) -> None: ...

    def stepped(self) -> bool:
        return True

    def log_metrics(self, metrics: object, step: int) -> None: ...


def learned(*overrides: str, steps: int = 320) -> SACLearner:
    """Return a learner after some steps of short episodes."""
    learner = make_learner(config(*overrides))
    assert isinstance(learner, SACLearner)
    learner.learn(steps, Silent())
    return learner


def config(*overrides: str) -> Config:
    return small("algo=sac", "stage=balance", "sac.policy_kwargs.mirror=false", *overrides)


@pytest.mark.parametrize("n_steps", [1, 4])
@pytest.mark.parametrize("buffer_size", [200, 5000], ids=["full", "filling"])
def test_minibatches_equal_stable_baselines3(n_steps: int, buffer_size: int) -> None:
    short = ("env.max_episode_steps=15", "env.max_tilt_angle=0.08")  # some fall before
    learner = learned(f"sac.n_steps={n_steps}", f"sac.buffer_size={buffer_size}", *short)
    env, buffer = learner.env, learner.model.buffer
    assert buffer.full == (buffer_size == 200) and buffer.timeouts.any() and (buffer.dones > buffer.timeouts).any()
    np.random.seed(1)
    expected = buffer.sample(500, env=env)
    np.random.seed(1)
    [found] = replay.minibatches(buffer, env, 1, 500, CPU)
    discounts = learner.cfg.sac.gamma if expected.discounts is None else expected.discounts
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.observations, expected.observations, **close)
    torch.testing.assert_close(found.next_observations, expected.next_observations, **close)
    torch.testing.assert_close(found.actions, expected.actions, **close)
    torch.testing.assert_close(found.returns, expected.rewards[:, 0], **close)
    torch.testing.assert_close(found.discounts, ((1.0 - expected.dones) * discounts)[:, 0], **close)


def test_ramp_reweighs_old_rewards() -> None:
    """Every reward in the buffer is what its step would earn now."""
    learner = learned("curriculum.ramp_start_value=1.0", "curriculum.ramp_timesteps=5000", "env.forward_vel_weight=3.0")
    plain = learned("curriculum.ramp_start_value=1.0", "curriculum.ramp_timesteps=5000", "env.forward_vel_weight=1.0")
    buffer, batch, rows = learner.model.buffer, learner.batch, 320 // learner.batch.n
    assert isinstance(buffer, replay.RampedReplayBuffer) and isinstance(plain.model.buffer, replay.RampedReplayBuffer)
    np.testing.assert_array_equal(buffer.actions[:8], plain.model.buffer.actions[:8])
    np.testing.assert_allclose(buffer.rewards[:8], plain.model.buffer.rewards[:8], rtol=1e-5, atol=1e-5)
    assert np.ptp(buffer.ramped[:rows]) > 0
    env = learner.env
    batch.task.set_weight("forward_vel_weight", 100.0)
    np.random.seed(1)
    [found] = replay.minibatches(buffer, env, 1, 500, CPU)
    buffer.rewards[:] += 100.0 * buffer.ramped
    np.random.seed(1)
    expected = buffer.sample(500, env=env)
    torch.testing.assert_close(found.returns, expected.rewards[:, 0], rtol=1e-4, atol=1e-4)


def test_one_gather_many_minibatches() -> None:
    learner = learned()
    drawn = list(replay.minibatches(learner.model.buffer, learner.env, 3, 20, CPU))
    assert [len(batch.returns) for batch in drawn] == [20, 20, 20]
    assert not torch.equal(drawn[0].observations, drawn[1].observations)


def test_actions_have_right_probability() -> None:
    learner = learned()
    [batch] = replay.minibatches(learner.model.buffer, learner.env, 1, 50, CPU)
    torch.manual_seed(0)
    expected = learner.model.actor.action_log_prob(batch.observations)
    torch.manual_seed(0)
    found = act(learner.model.actor, batch.observations)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-3)


def test_update_equals_stable_baselines3() -> None:
    """Without noise and entropy, one gradient step moves all weights as SB3's does."""
    ours = learned("sac.ent_coef=0.0", "sac.actor_tau=null", "sac.policy_delay=1").model
    ours.actor.log_std.weight.data.zero_()
    ours.actor.log_std.bias.data.fill_(-20.0)
    weights = copy.deepcopy(ours.policy.state_dict())
    optimizers = {name: copy.deepcopy(optimizer.state_dict()) for name, optimizer in ours.optimizers().items()}
    np.random.seed(2)
    ours.train(1, 64)
    found = copy.deepcopy(ours.policy.state_dict())
    ours.policy.load_state_dict(weights)
    for name, optimizer in ours.optimizers().items():
        optimizer.load_state_dict(optimizers[name])
    np.random.seed(2)
    SAC.train(ours, 1, 64)
    for key, expected in ours.policy.state_dict().items():
        torch.testing.assert_close(found[key], expected, rtol=0, atol=ours.lr_schedule(1.0) / 10)
        assert "log_std" in key or not torch.equal(found[key], weights[key])


def test_policy_delay_holds_actor() -> None:
    model = learned("sac.policy_delay=3", "sac.gradient_steps=1").model
    assert model.log_ent_coef is not None

    def moves(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
        return any(not torch.equal(value, after[key]) for key, value in before.items())

    actor_moves = []
    for _ in range(6):
        actor, critic = copy.deepcopy(model.actor.state_dict()), copy.deepcopy(model.critic.state_dict())
        coefficient = model.log_ent_coef.item()
        model.train(1, 32)
        actor_moves.append(moves(actor, model.actor.state_dict()))
        assert moves(critic, model.critic.state_dict())
        assert (model.log_ent_coef.item() != coefficient) == actor_moves[-1]
    assert actor_moves[:3].count(True) == actor_moves[3:].count(True) == 1


def test_parallel_learning_same_weights() -> None:
    """Learning beside physics gives the weights of learning before it."""
    one, two = (learned(f"sim.threads={threads}", steps=512) for threads in (1, 2))
    for key, value in one.model.policy.state_dict().items():
        torch.testing.assert_close(two.model.policy.state_dict()[key], value, rtol=0, atol=0)
    for name, array in one.position().items():
        np.testing.assert_array_equal(two.position()[name], array, err_msg=name)


def test_physics_error_ends_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(config("sim.threads=2"))

    def broken(action: np.ndarray) -> None:
        raise FloatingPointError("physics")

    monkeypatch.setattr(learner.batch, "step", broken)
    with pytest.raises(FloatingPointError, match="physics"):
        learner.learn(64, Silent())
