"""Stable-Baselines3's proximal policy optimisation (Schulman et al. 2017)."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

from dinorl.config import Config
from dinorl.learners.sb3 import ACTIVATIONS, SB3Learner, make_env
from dinorl.learners.schedules import Schedule, entropy_schedule, schedule, warm_up
from dinorl.sim.devices import learning_device


def make(cfg: Config, learning: bool) -> PPOLearner:
    """Build PPO for a stage; without learning, with rollouts of two steps."""
    if not learning:
        cfg = replace(cfg, ppo=replace(cfg.ppo, n_steps=2, batch_size=2))
    return PPOLearner(cfg, make_env(cfg, learning))


def clip_schedule(cfg: Config) -> Schedule:
    """Return the clip range over the stage."""
    base = schedule(cfg.ppo.clip_range, cfg.ppo.clip_range_end, cfg.ppo.lr_schedule)
    return warm_up(base, cfg.curriculum.warmup_clip_range, cfg)


class PPOLearner(SB3Learner):
    """PPO as a learner."""

    value_estimates = ("mlp_extractor.value_net.", "value_net.")

    model: PPO

    def __init__(self, cfg: Config, env: VecNormalize) -> None:
        ppo = cfg.ppo
        self._entropy = entropy_schedule(ppo.ent_coef, ppo.ent_coef_end, ppo.lr_schedule, cfg)
        warnings.filterwarnings("ignore", "You are trying to run PPO on the GPU")  # it is the user's choice
        model = PPO(
            "MlpPolicy",
            env,
            learning_rate=schedule(ppo.learning_rate, ppo.learning_rate_end, ppo.lr_schedule),
            n_steps=ppo.n_steps,
            batch_size=ppo.minibatch(env.num_envs),
            n_epochs=ppo.n_epochs,
            gamma=ppo.gamma,
            gae_lambda=ppo.gae_lambda,
            clip_range=clip_schedule(cfg),
            ent_coef=self._entropy(1.0),
            vf_coef=ppo.vf_coef,
            max_grad_norm=ppo.max_grad_norm,
            target_kl=ppo.target_kl,
            policy_kwargs={
                "net_arch": list(ppo.policy_kwargs.net_arch),
                "activation_fn": ACTIVATIONS[ppo.policy_kwargs.activation_fn],
                "log_std_init": ppo.policy_kwargs.log_std_init,
            },
            seed=cfg.seed,
            device=learning_device(cfg.sim, cfg.algo),
        )
        super().__init__(cfg, model, env)

    def explore(self, log_std: float) -> None:
        """Set the standard deviation of actions."""
        log_stds = self.model.policy.log_std
        assert isinstance(log_stds, torch.Tensor)
        with torch.no_grad():
            log_stds.fill_(log_std)

    def apply_schedules(self) -> None:
        """Set the entropy coefficient."""
        self.model.ent_coef = self._entropy(self._progress_remaining)
