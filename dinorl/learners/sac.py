"""Stable-Baselines3's soft actor-critic (Haarnoja et al. 2018), with layer norm and an averaged actor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from joblib import cpu_count
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dinorl.config import RAMPED_WEIGHT, Config, HandOver
from dinorl.envs.batch import BatchEnv
from dinorl.learners import replay, state
from dinorl.learners.base import Arrays
from dinorl.learners.sb3 import ACTIVATIONS, SB3Learner, make_env, raw_env
from dinorl.learners.schedules import Schedule, entropy_schedule, schedule, warm_up
from dinorl.sim.devices import learning_device
from dinorl.tasks.declare import logged_name

# Learning actor in optimizer.npz; policy.npz has its average.
ACTOR = "learner/"


def make(cfg: Config, learning: bool) -> SACLearner:
    """Build SAC for a stage; without learning, with a replay buffer of one transition."""
    if not learning:
        cfg = replace(cfg, sim=replace(cfg.sim, n_envs=1), sac=replace(cfg.sac, buffer_size=1))
    # half for physics, half for learning, at the same time
    threads = cfg.sim.threads or cpu_count()
    env = make_env(replace(cfg, sim=replace(cfg.sim, threads=threads - threads // 2)), learning)
    return SACLearner(cfg, env, parallel=threads > 1)


def act(actor: Actor, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the actor's noisy actions, (n, actuators), and their log-probabilities, (n,).

    A tanh of a normal distribution; log(1 - tanh(u)²) = 2 (log 2 - u - softplus(-2u)) holds for any u.
    """
    mean, log_std, _ = actor.get_action_dist_params(observations)
    noise = torch.randn_like(mean)
    u = mean + noise * log_std.exp()
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    squashed = 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))
    return torch.tanh(u), (normal - squashed).sum(dim=1)


def replay_ratio(cfg: Config) -> float:
    """Return gradient steps per environment step."""
    return cfg.sac.gradient_steps / (cfg.sac.train_freq * cfg.sim.n_envs)


def actor_schedule(cfg: Config) -> Schedule:
    """Return the actor's share of the learning rate over the stage.

    After a warm start the critics still expect the last stage's rewards; following them would unlearn the policy.
    """
    return warm_up(lambda remaining: 1.0, cfg.curriculum.warmup_actor_scale, cfg)


class LayerNormCritic(ContinuousCritic):
    """Critics with layer normalisation, which bounds the values of unseen actions.

    Ball et al. 2023, "Efficient Online Reinforcement Learning with Offline Data", section 4.2.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[torch.nn.Module] = torch.nn.ReLU,
        **rest: Any,
    ) -> None:
        super().__init__(
            observation_space, action_space, net_arch, features_extractor, features_dim, activation_fn, **rest
        )
        inputs = features_dim + get_action_dim(action_space)
        self.q_networks = []
        for i in range(self.n_critics):
            layers = create_mlp(inputs, 1, net_arch, activation_fn, post_linear_modules=[torch.nn.LayerNorm])
            network = torch.nn.Sequential(*layers)
            setattr(self, f"qf{i}", network)
            self.q_networks.append(network)


class LayerNormSACPolicy(SACPolicy):
    """SAC's policy with :class:`LayerNormCritic`."""

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Build the critics, or their targets."""
        arguments = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return LayerNormCritic(**arguments).to(self.device)


class StageSAC(SAC):
    """SAC whose warm-up steps use the current policy, with an exponential moving average of the actor.

    The average is the deterministic policy: the newest actor follows the critics' latest errors and may fall (Nikishin
    et al. 2018, "Improving Stability in Deep Reinforcement Learning with Weight Averaging").

    Attributes:
        actor_share: the actor's share of the learning rate over the stage.
        policy_delay: gradient steps of the critics per gradient step of the actor.
        actor_tau: EMA rate per gradient step; None: no average.
        average: the average actor; None before the first update.
    """

    actor_share: Schedule
    policy_delay: int = 1
    actor_tau: float | None = None
    average: AveragedModel | None = None

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Update critics at every gradient step, actor and entropy coefficient at every ``policy_delay``-th.

        The losses are Stable-Baselines3's. All minibatches are gathered at once, the actor's loss spends no gradients
        on the critics, and nothing waits for a number.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(list(self.optimizers().values()))
        if self.actor_tau is not None and self.average is None:
            self.start_average()
        critic_losses, actor_losses, entropies = [], [], []
        env = self.get_vec_normalize_env()
        assert env is not None
        for batch in replay.minibatches(self.buffer, env, gradient_steps, batch_size, self.device):
            critic_losses.append(self._update_critics(batch))
            self._n_updates += 1
            if self._n_updates % self.policy_delay == 0:
                loss, log_prob = self._update_actor(batch.observations)
                actor_losses.append(loss)
                entropies.append(-log_prob)
            self._follow_critics(self._target_parameters, self._critic_parameters, 0)
        if self.average is not None and self.actor_tau is not None:
            decay = (1.0 - self.actor_tau) ** gradient_steps
            self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self.average.update_parameters(self.actor)
        self.logger.record("train/n_updates", self._n_updates)
        self.logger.record("train/critic_loss", torch.stack(critic_losses).mean())
        self.logger.record("train/ent_coef", self._alpha())
        if actor_losses:
            self.logger.record("train/actor_loss", torch.stack(actor_losses).mean())
            self.logger.record("train/entropy", torch.stack(entropies).mean())

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizers by the network that they update."""
        own = {"actor": self.actor.optimizer, "critic": self.critic.optimizer}
        return own if self.ent_coef_optimizer is None else own | {"ent_coef": self.ent_coef_optimizer}

    @property
    def buffer(self) -> ReplayBuffer:
        """The replay buffer; a row is a step of the whole batch."""
        assert isinstance(self.replay_buffer, ReplayBuffer)
        return self.replay_buffer

    def _setup_model(self) -> None:
        super()._setup_model()
        for module in (self.actor, self.critic):
            module.optimizer = torch.optim.Adam(module.parameters(), lr=self.lr_schedule(1.0), fused=True)
        self._actor_parameters = list(self.actor.parameters())
        self._critic_parameters = list(self.critic.parameters())
        self._target_parameters = list(self.critic_target.parameters())
        self._follow_critics = get_ema_multi_avg_fn(1.0 - self.tau)  # type: ignore[no-untyped-call]

    def _alpha(self) -> torch.Tensor:
        """Return the entropy coefficient."""
        return self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef.detach().exp()[0]

    def _update_critics(self, batch: replay.Minibatch) -> torch.Tensor:
        """Regress both critics on the n-step target; return the loss."""
        with torch.no_grad():
            actions, log_prob = act(self.actor, batch.next_observations)
            values = torch.cat(self.critic_target(batch.next_observations, actions), dim=1).amin(dim=1)
            target = batch.returns + batch.discounts * (values - self._alpha() * log_prob)
        losses = [F.mse_loss(value[:, 0], target) for value in self.critic(batch.observations, batch.actions)]
        loss = 0.5 * torch.stack(losses).sum()
        self.critic.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.critic.optimizer.step()
        return loss.detach()

    def _update_actor(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Update actor and entropy coefficient; return the loss and the mean log-probability."""
        actions, log_prob = act(self.actor, observations)
        values = torch.cat(self.critic(observations, actions), dim=1).amin(dim=1)
        loss = (self._alpha() * log_prob - values).mean()
        self.actor.optimizer.zero_grad()
        loss.backward(inputs=self._actor_parameters)  # type: ignore[no-untyped-call]
        self.actor.optimizer.step()
        mean = log_prob.detach().mean()
        if self.ent_coef_optimizer is not None and self.log_ent_coef is not None:
            self.ent_coef_optimizer.zero_grad()
            entropy_loss = -self.log_ent_coef * (mean + float(self.target_entropy))
            entropy_loss.sum().backward()  # type: ignore[no-untyped-call]
            self.ent_coef_optimizer.step()
        return loss.detach(), mean

    def start_average(self) -> None:
        """Start the average at the current actor."""
        self.average = AveragedModel(self.actor)
        self.average.n_averaged += 1  # otherwise the first update replaces it

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context manager: the actor uses the average's weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        if self.average is not None:
            for own, other in zip(self.actor.parameters(), self.average.module.parameters(), strict=True):
                own.data, other.data = other.data, own.data

    def predict(
        self, observation: np.ndarray | dict[str, np.ndarray], state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None, deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:  # fmt: skip
        """Return actions: deterministic ones of the average, stochastic ones of the actor."""
        with self.averaged() if deterministic else nullcontext():
            return super().predict(observation, state, episode_start, deterministic)

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        super()._update_learning_rate(optimizers)
        for group in self.actor.optimizer.param_groups:
            group["lr"] *= self.actor_share(self._current_progress_remaining)

    def _sample_action(self, learning_starts: int, action_noise: Any = None, n_envs: int = 1) -> Any:
        return super()._sample_action(0, action_noise, n_envs)


class SACLearner(SB3Learner):
    """SAC as a learner.

    Args:
        cfg: the composed config.
        env: the training environment.
        parallel: learn while the batch steps. The results are the same.
    """

    value_estimates = ("critic.", "critic_target.")
    model: StageSAC

    def __init__(self, cfg: Config, env: VecNormalize, parallel: bool) -> None:
        sac = cfg.sac
        tuned = isinstance(sac.ent_coef, str)  # tuned entropy coefficient
        ramped = None if cfg.curriculum.ramp_start_value is None else _ramped(cfg, raw_env(env).batch)
        model = StageSAC(
            LayerNormSACPolicy if sac.policy_kwargs.layer_norm else "MlpPolicy",
            env,
            learning_rate=schedule(sac.learning_rate, sac.learning_rate_end, sac.lr_schedule),
            buffer_size=min(sac.buffer_size, max(cfg.curriculum.timesteps + cfg.sim.n_envs, cfg.sim.n_envs)),
            learning_starts=sac.learning_starts,
            batch_size=sac.batch_size,
            tau=sac.tau,
            gamma=sac.gamma,
            train_freq=sac.train_freq,
            gradient_steps=0,  # _update does them
            n_steps=1 if ramped else sac.n_steps,
            replay_buffer_class=replay.RampedReplayBuffer if ramped else None,
            replay_buffer_kwargs=ramped,
            ent_coef=sac.ent_coef if tuned else float(sac.ent_coef),
            target_entropy=sac.target_entropy,
            policy_kwargs={
                "net_arch": list(sac.policy_kwargs.net_arch),
                "activation_fn": ACTIVATIONS[sac.policy_kwargs.activation_fn],
            },
            seed=cfg.seed,
            device=learning_device(cfg.sim, cfg.algo),
        )
        model.actor_share, model.actor_tau, model.policy_delay = actor_schedule(cfg), sac.actor_tau, sac.policy_delay
        super().__init__(cfg, model, env)
        self.resumable = sac.save_replay_buffer
        self.raw.do_meanwhile(self._update, parallel)
        self._entropy = None if tuned else entropy_schedule(float(sac.ent_coef), sac.ent_coef_end, sac.lr_schedule, cfg)
        # start at the home pose; large random actions only teach falling
        _settle(model.actor.mu, 0.0)
        self.explore(sac.policy_kwargs.log_std_init)

    def explore(self, log_std: float) -> None:
        """Set the standard deviation of actions in every state."""
        _settle(self.model.actor.log_std, log_std)

    def apply_schedules(self) -> None:
        """Set the entropy coefficient, unless it is tuned."""
        if self._entropy is not None:
            self.model.ent_coef_tensor.fill_(self._entropy(self._progress_remaining))

    def _update(self) -> None:
        """Learn from the steps before the current one."""
        sac, model = self.cfg.sac, self.model
        if self.timesteps > sac.learning_starts and self.timesteps // self.raw.num_envs % sac.train_freq == 0:
            model._update_current_progress_remaining(self.timesteps, model._total_timesteps)
            model.train(sac.gradient_steps, sac.batch_size)

    def describe(self) -> tuple[list[str], dict[str, float]]:
        """Return the replay ratio and the buffer's size."""
        ratio, buffer = replay_ratio(self.cfg), self.model.buffer
        size = sum(array.nbytes for array in vars(buffer).values() if isinstance(array, np.ndarray))
        lines = [
            f"replay ratio {ratio:g} gradient steps per environment step",
            f"replay buffer {buffer.buffer_size * self.raw.num_envs:,} steps, {size / 2**20:,.0f} MiB",
        ]
        return lines, {"time/replay_ratio": ratio}

    # State -----------------------------------------------------------------------------------------------------------

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return self.model.optimizers()

    def _policy_arrays(self) -> Arrays:
        with self.model.averaged():
            return super()._policy_arrays()

    def state(self) -> dict[str, Arrays]:
        """Return the files of a bundle: the average actor in ``policy``, the learning one in ``optimizer``."""
        files = super().state()
        if self.model.log_ent_coef is not None:
            files["optimizer"]["log_ent_coef"] = self.model.log_ent_coef.detach().cpu().numpy()
        if self.model.average is not None:
            actor = state.module_arrays(self.model.actor.state_dict())
            files["optimizer"] |= {ACTOR + key: value for key, value in actor.items()}
        return files

    def warm_start(self, files: Mapping[str, Arrays], hand_over: HandOver = "all") -> None:
        """Load what another stage hands over; restart the average there."""
        super().warm_start(files, hand_over)
        self.model.average = None

    def load(self, files: Mapping[str, Arrays]) -> None:
        """Load :meth:`state`."""
        super().load(files)
        optimizer, model = files["optimizer"], self.model
        if "log_ent_coef" in optimizer:
            assert model.log_ent_coef is not None
            with torch.no_grad():
                model.log_ent_coef.copy_(torch.from_numpy(optimizer["log_ent_coef"]))
        actor = {key.removeprefix(ACTOR): value for key, value in optimizer.items() if key.startswith(ACTOR)}
        if actor:
            model.start_average()
            model.actor.load_state_dict({key: torch.from_numpy(value) for key, value in actor.items()})

    def restore(self, position: Mapping[str, np.ndarray], experience: Mapping[str, np.ndarray]) -> None:
        """Resume from a position and its experience."""
        super().restore(position, experience)
        replay.load(self.model.buffer, dict(experience), self.timesteps // self.raw.num_envs)

    def save_experience(self, folder: Path) -> None:
        """Write the experience since the last call."""
        replay.save(folder, self.model.buffer, self.timesteps // self.raw.num_envs)

    def read_experience(self, folder: Path, timesteps: int) -> Arrays:
        """Return the replay buffer's arrays after ``timesteps`` environment steps."""
        return replay.read(folder, self.model.buffer, timesteps // self.raw.num_envs)

    def trim_experience(self, folder: Path, timesteps: int) -> None:
        """Delete segments that no bundle needs."""
        replay.trim(folder, self.model.buffer, timesteps // self.raw.num_envs)


def _ramped(cfg: Config, batch: BatchEnv) -> dict[str, Any]:
    """Return arguments of the replay buffer for a ramped reward."""
    name = batch.kept_term = logged_name(RAMPED_WEIGHT)
    return {
        "n_steps": cfg.sac.n_steps,
        "gamma": cfg.sac.gamma,
        "term": lambda: (batch.kept, batch.task.weights[name]),
    }


def _settle(layer: object, answer: float) -> None:
    """Make a layer's output nearly constant."""
    assert isinstance(layer, torch.nn.Linear)  # a parameter only with SDE
    with torch.no_grad():
        layer.weight.mul_(0.01)
        layer.bias.fill_(answer)
