"""Configs of stages that are over in a second."""

from __future__ import annotations

from dinorl.config import Config, compose

SMALL = [
    "species=trex", "sim.n_envs=8", "ppo.n_steps=32", "ppo.batch_size=64", "curriculum.timesteps=1024",
    "eval.episodes=4", "eval.every=512", "eval.video_seconds=0", "env.max_episode_steps=60",
    "sac.learning_starts=64", "sac.gradient_steps=2", "sac.batch_size=32",
]  # fmt: skip


def small(*overrides: str) -> Config:
    return compose([*SMALL, *overrides])
