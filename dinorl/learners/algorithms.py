"""From the composed config to a Stable-Baselines3 model, its schedules included."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.sac.policies import Actor, SACPolicy

from dinorl.config import Config, CurriculumConfig, PPOConfig, SACConfig
from dinorl.evaluation.evaluator import Policy
from dinorl.learners.vec_env import DinoVecEnv, MirrorVecEnv

ACTIVATIONS = {"elu": torch.nn.ELU, "relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
# Observations are normalised by their running mean and standard deviation, the latter never below sqrt(OBS_EPSILON):
# pieces that hardly vary in one stage (a target always far away) must not blow up in the next.
OBS_EPSILON = 0.01
OBS_CLIP = 10.0

# progress_remaining, 1 at the start of the stage, 0 at its end → value
Schedule = Callable[[float], float]


def schedule(start: float, end: float | None, shape: str) -> Schedule:
    """Return the value over the stage: from ``start`` to ``end``, linear or half a cosine; constant without ``end``.

    The last rollout goes beyond the budget, where progress_remaining is negative: the value stays at its end.
    """
    if end is None:
        return lambda remaining: start
    if shape == "cosine":
        return lambda remaining: end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * (1.0 - max(remaining, 0.0))))
    return lambda remaining: end + (start - end) * max(remaining, 0.0)


def warm_up(base: Schedule, value: float | None, curriculum: CurriculumConfig) -> Schedule:
    """Return ``base``, but ``value`` for the first ``warmup_timesteps`` of the stage."""
    if value is None or not curriculum.warmup_timesteps:
        return base
    share = min(curriculum.warmup_timesteps / curriculum.timesteps, 1.0)
    return lambda remaining: value if 1.0 - remaining < share else base(remaining)


def entropy_schedule(cfg: Config) -> Schedule | None:
    """Return the entropy coefficient over the stage, or None where SAC tunes it itself."""
    algo: PPOConfig | SACConfig = cfg.ppo if cfg.algo.name == "ppo" else cfg.sac
    if isinstance(algo.ent_coef, str):
        return None
    base = schedule(float(algo.ent_coef), algo.ent_coef_end, algo.lr_schedule)
    return warm_up(base, cfg.curriculum.warmup_ent_coef, cfg.curriculum)


def clip_schedule(cfg: Config) -> Schedule:
    """Return PPO's clip range over the stage."""
    base = schedule(cfg.ppo.clip_range, cfg.ppo.clip_range_end, cfg.ppo.lr_schedule)
    return warm_up(base, cfg.curriculum.warmup_clip_range, cfg.curriculum)


def actor_schedule(cfg: Config) -> Schedule:
    """Return the share of the learning rate that SAC's actor learns at.

    After a hand-over the critics still expect the rewards of the stage before: an actor that follows them unlearns.
    """
    return warm_up(lambda remaining: 1.0, cfg.curriculum.warmup_actor_scale, cfg.curriculum)


def ramp_weight(cfg: Config, timesteps: int) -> float:
    """Return ``env.forward_vel_weight`` at a time of the stage: it rises from its start value over the ramp."""
    curriculum = cfg.curriculum
    return _ramped(curriculum.ramp_start_value, cfg.env.forward_vel_weight, curriculum.ramp_timesteps, timesteps)


def bearing_scale(cfg: Config, timesteps: int) -> float:
    """Return how many times as far as the evaluation's training's first targets are turned, at a time of the stage."""
    curriculum = cfg.curriculum
    return _ramped(
        curriculum.bearing_scale_start, curriculum.bearing_scale, curriculum.bearing_ramp_timesteps, timesteps
    )


def episode_steps(cfg: Config, timesteps: int) -> int:
    """Return how many control steps training's episodes have at most, at a time of the stage."""
    curriculum = cfg.curriculum
    scale = _ramped(
        curriculum.episode_scale_start, curriculum.episode_scale, curriculum.episode_ramp_timesteps, timesteps
    )
    return max(1, round(scale * cfg.env.max_episode_steps))


def _ramped(start: float | None, value: float, length: int, timesteps: int) -> float:
    if start is None or not length:
        return value
    return start + (value - start) * min(timesteps / length, 1.0)


def gamma(cfg: Config) -> float:
    """Return the discount factor of the algorithm; reward normalisation must use the same."""
    return cfg.ppo.gamma if cfg.algo.name == "ppo" else cfg.sac.gamma


def replay_ratio(cfg: Config) -> float:
    """Return SAC's gradient steps per environment step."""
    return cfg.sac.gradient_steps / (cfg.sac.train_freq * cfg.sim.n_envs)


def wrapped(cfg: Config, env: DinoVecEnv) -> VecNormalize:
    """Wrap the animals as the stage's algorithm wants them: mirrored, if the config says so, and normalised."""
    policy = (cfg.ppo if cfg.algo.name == "ppo" else cfg.sac).policy_kwargs
    return normalised(cfg, MirrorVecEnv(env) if policy.mirror else env)


def normalised(cfg: Config, env: VecEnv) -> VecNormalize:
    """Wrap an environment so that observations and rewards are normalised as the stage's algorithm wants them."""
    return VecNormalize(env, gamma=gamma(cfg), clip_obs=OBS_CLIP, epsilon=OBS_EPSILON)


class LayerNormCritic(ContinuousCritic):
    """Critics with layer normalisation, which keeps them from believing in actions that were never tried.

    Ball et al. 2023, "Efficient Online Reinforcement Learning with Offline Data", section 4.2.
    """

    def __init__(
        self,
        observation_space: gym.Space,
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
    """SAC whose policy is worth something from the start: what it gathers before it learns, that policy lives.

    What acts without noise is the average of the actors of late: the newest chases what the critics believe at the
    moment, and may fall where the one before it and the one after it stand. Nikishin et al. 2018, "Improving Stability
    in Deep Reinforcement Learning with Weight Averaging"; here with a moving average.

    Attributes:
        actor_share: the actor's share of the learning rate over the stage.
        actor_tau: share by which the average follows the actor, per gradient step; None: there is no average.
        average: the average actor; None until the actor has learned something.
    """

    actor_share: Schedule
    actor_tau: float | None = None
    average: Actor | None = None

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Learn, and let the average follow."""
        if self.actor_tau is not None and self.average is None:
            self.average = copy.deepcopy(self.actor)
        super().train(gradient_steps, batch_size)
        if self.actor_tau is not None and self.average is not None:
            share = 1.0 - (1.0 - self.actor_tau) ** gradient_steps
            with torch.no_grad():
                for mean, own in zip(self.average.parameters(), self.actor.parameters(), strict=True):
                    mean.lerp_(own, share)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the actor's weights are the average's."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        if self.average is not None:
            for own, other in zip(self.actor.parameters(), self.average.parameters(), strict=True):
                own.data, other.data = other.data, own.data

    def predict(
        self, observation: np.ndarray | dict[str, np.ndarray], state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None, deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:  # fmt: skip
        """Return actions: the average's without noise, the actor's with."""
        with self.averaged() if deterministic else nullcontext():
            return super().predict(observation, state, episode_start, deterministic)

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        super()._update_learning_rate(optimizers)
        for group in self.actor.optimizer.param_groups:
            group["lr"] *= self.actor_share(self._current_progress_remaining)

    def _sample_action(self, learning_starts: int, action_noise: Any = None, n_envs: int = 1) -> Any:
        return super()._sample_action(0, action_noise, n_envs)

    def start_at_home(self, log_std: float) -> None:
        """Let the untrained policy answer the home pose, with a standard deviation of ``exp(log_std)``, as PPO's does.

        SAC's own start, actions all over the joints' ranges, shows an animal little but how it falls.
        """
        _settle(self.actor.mu, 0.0)
        self.explore(log_std)

    def explore(self, log_std: float) -> None:
        """Let the policy explore with a standard deviation of ``exp(log_std)`` in every state."""
        assert isinstance(self.actor.log_std, torch.nn.Module)  # a parameter only with state-dependent exploration
        _settle(self.actor.log_std, log_std)


def _settle(layer: torch.nn.Module, answer: float) -> None:
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight.mul_(0.01)
        layer.bias.fill_(answer)


class StagePPO(PPO):
    """PPO whose exploration can be set after a hand-over."""

    def explore(self, log_std: float) -> None:
        """Let the policy explore with a standard deviation of ``exp(log_std)``."""
        with torch.no_grad():
            self.policy.log_std.fill_(log_std)


def deterministic(model: StagePPO | StageSAC, env: VecNormalize) -> Policy:
    """Return the model's policy without its noise, as it acts on the animals: the wrappers' part is included."""
    mirror = env.venv.mirror if isinstance(env.venv, MirrorVecEnv) else None

    def act(observation: np.ndarray) -> np.ndarray:
        where = np.zeros(len(observation), dtype=bool) if mirror is None else mirror.second_half(observation)
        shown = observation if mirror is None else mirror.shown(observation, where)
        action, _ = model.predict(env.normalize_obs(shown), deterministic=True)
        return action if mirror is None else mirror.acted(action, where)

    return act


def make_model(cfg: Config, env: VecNormalize) -> StagePPO | StageSAC:
    """Build the algorithm of the config on an environment; everything it does at random follows ``cfg.seed``."""
    if cfg.algo.name == "ppo":
        return _ppo(cfg, env)
    return _sac(cfg, env)


def _ppo(cfg: Config, env: VecNormalize) -> StagePPO:
    ppo = cfg.ppo
    entropy = entropy_schedule(cfg)
    assert entropy is not None
    return StagePPO(
        "MlpPolicy",
        env,
        learning_rate=schedule(ppo.learning_rate, ppo.learning_rate_end, ppo.lr_schedule),
        n_steps=ppo.n_steps,
        batch_size=ppo.batch_size,
        n_epochs=ppo.n_epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=clip_schedule(cfg),
        ent_coef=entropy(1.0),
        vf_coef=ppo.vf_coef,
        max_grad_norm=ppo.max_grad_norm,
        target_kl=ppo.target_kl,
        policy_kwargs={
            "net_arch": list(ppo.policy_kwargs.net_arch),
            "activation_fn": ACTIVATIONS[ppo.policy_kwargs.activation_fn],
            "log_std_init": ppo.policy_kwargs.log_std_init,
        },
        seed=cfg.seed,
        device="cpu",
    )


def _sac(cfg: Config, env: VecNormalize) -> StageSAC:
    sac = cfg.sac
    ent_coef: Any = sac.ent_coef if isinstance(sac.ent_coef, str) else float(sac.ent_coef)
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
        gradient_steps=sac.gradient_steps,
        n_steps=sac.n_steps,
        ent_coef=ent_coef,
        target_entropy=sac.target_entropy,
        policy_kwargs={
            "net_arch": list(sac.policy_kwargs.net_arch),
            "activation_fn": ACTIVATIONS[sac.policy_kwargs.activation_fn],
        },
        seed=cfg.seed,
        device="cpu",
    )
    model.actor_share, model.actor_tau = actor_schedule(cfg), sac.actor_tau
    model.start_at_home(sac.policy_kwargs.log_std_init)
    return model
