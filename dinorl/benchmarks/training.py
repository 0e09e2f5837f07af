"""End-to-end training speed: our defaults, and PPO with the settings that others use for such animals."""

from __future__ import annotations

import time
from functools import partial

import torch
from joblib import cpu_count
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from dinorl.benchmarks.environment import PLAIN_ENVIRONMENTS, Contender
from dinorl.benchmarks.plain_env import PlainEnv
from dinorl.config import Config
from dinorl.learners.algorithms import make_model, normalised, wrapped
from dinorl.learners.vec_env import DinoVecEnv

# The reference: Stable-Baselines3's PPO as the nearest public project sets it for animals like these.
REFERENCE = {
    "n_steps": 2048,
    "batch_size": 128,
    "n_epochs": 10,
    "policy_kwargs": {"net_arch": [512, 256]},
}


class TrainingContender:
    """Trains a model; a run is as many whole rollouts with their updates as fit, at least one.

    Args:
        model: to be trained.
        warm_up: environment steps to train before anything is measured.
    """

    def __init__(self, model: BaseAlgorithm, warm_up: int = 0) -> None:
        self.model = model
        model.set_logger(Logger(folder=None, output_formats=[]))  # its own would leave folders in /tmp
        # One rollout with its update is the least that PPO's learn() does; asked for less, its schedules overshoot.
        self._piece = model.n_steps * model.n_envs if isinstance(model, PPO) else 10 * model.n_envs
        self._warm_up = max(warm_up, self._piece)

    def run(self, seconds: float) -> float:
        """Train for about so long and return environment steps per second."""
        model = self.model
        if not model.num_timesteps:
            model.learn(self._warm_up)
        begun, before = time.perf_counter(), model.num_timesteps
        while (elapsed := time.perf_counter() - begun) < seconds:
            model.learn(self._piece, reset_num_timesteps=False)
        return (model.num_timesteps - before) / elapsed

    def close(self) -> None:
        """End the environment."""
        env = self.model.get_env()
        assert env is not None
        env.close()


def training_contenders(cfg: Config, sac: Config) -> dict[str, Contender]:
    """Return what is compared, by its name in the report.

    Args:
        cfg: composed for PPO.
        sac: the same for SAC.
    """
    torch.set_num_threads(cfg.sim.threads or cpu_count())
    plain = DummyVecEnv([partial(PlainEnv, cfg)] * PLAIN_ENVIRONMENTS)
    reference = PPO("MlpPolicy", normalised(cfg, plain), device="cpu", seed=0, **REFERENCE)  # type: ignore[arg-type]
    return {
        "ppo": TrainingContender(make_model(cfg, wrapped(cfg, DinoVecEnv(cfg, stagger=True)))),
        "ppo_reference": TrainingContender(reference),
        "sac": TrainingContender(
            make_model(sac, wrapped(sac, DinoVecEnv(sac, stagger=True))), sac.sac.learning_starts + 1
        ),
    }
