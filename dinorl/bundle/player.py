"""A bundle's policy, ready to act: (n, obs) observations in, (n, actuators) actions out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dinorl.bundle import bundle
from dinorl.evaluation.evaluator import Policy
from dinorl.learners.algorithms import deterministic, make_model, wrapped
from dinorl.learners.vec_env import DinoVecEnv


def load_player(source: Path) -> Policy:
    """Return the deterministic policy of a bundle, its observation statistics included and frozen."""
    cfg = bundle.load_config(source)
    bundle.check_network(source, cfg)
    small = replace(
        cfg,
        sim=replace(cfg.sim, n_envs=1),
        ppo=replace(cfg.ppo, n_steps=2, batch_size=2),
        sac=replace(cfg.sac, buffer_size=1),
    )
    env = wrapped(small, DinoVecEnv(small))
    env.training = False
    model = make_model(small, env)
    bundle.load_policy(source, model, env)
    return deterministic(model, env)
