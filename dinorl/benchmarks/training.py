"""Training speed, learning included: our defaults, and PPO with common settings."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from dinorl.benchmarks.environment import PLAIN_ENVIRONMENTS, Contender
from dinorl.benchmarks.plain_env import plain_env
from dinorl.config import Config, compose
from dinorl.learners.base import make_learner
from dinorl.learners.sb3 import SB3Learner, normalized
from dinorl.sim.devices import missing_packages, torch_gpu

# from the nearest public project
REFERENCE = {
    "n_steps": 2048,
    "batch_size": 128,
    "n_epochs": 10,
    "policy_kwargs": {"net_arch": [512, 256]},
}


class TrainingContender:
    """Trains a model in whole rollouts, at least one.

    Args:
        model: to train.
        warm_up: environment steps before the first measurement.
    """

    def __init__(self, model: BaseAlgorithm, warm_up: int = 0) -> None:
        self.model = model
        model.set_logger(Logger(folder=None, output_formats=[]))  # the default writes files
        # PPO learns whole rollouts; schedules overshoot below one.
        self._piece = model.n_steps * model.n_envs if isinstance(model, PPO) else 10 * model.n_envs
        self._warm_up = max(warm_up, self._piece)

    def run(self, seconds: float) -> float:
        """Train for about ``seconds`` and return environment steps per second."""
        model = self.model
        if not model.num_timesteps:
            model.learn(self._warm_up)
        began, before = time.perf_counter(), model.num_timesteps
        while (elapsed := time.perf_counter() - began) < seconds:
            model.learn(self._piece, reset_num_timesteps=False)
        return (model.num_timesteps - before) / elapsed

    def close(self) -> None:
        """End the environment."""
        env = self.model.get_env()
        assert env is not None
        env.close()


def training_contenders(cfg: Config, sac: Config) -> dict[str, Contender]:
    """Return the contenders by their names in the report.

    Args:
        cfg: the stage with PPO.
        sac: the same stage with SAC.
    """
    plain = DummyVecEnv([partial(plain_env, cfg)] * PLAIN_ENVIRONMENTS)
    reference = PPO("MlpPolicy", normalized(plain, cfg.ppo.gamma), device="cpu", seed=0, **REFERENCE)  # type: ignore[arg-type]
    return {
        "ppo": TrainingContender(_model(cfg)),
        **_gpu_contenders(cfg),
        "ppo_reference": TrainingContender(reference),
        "sac": TrainingContender(_model(sac), sac.sac.learning_starts + 1),
    }


def _gpu_contenders(cfg: Config) -> dict[str, Contender]:
    """Return PPO that learns on a GPU, and all of ``experiment=gpu``; nothing without a GPU."""
    if torch_gpu() is None:
        return {}
    own: dict[str, Contender] = {
        "ppo_cuda": TrainingContender(_model(replace(cfg, algo=replace(cfg.algo, device="cuda"))))
    }
    if not missing_packages():
        stage = [f"species={cfg.species.name}", f"stage={cfg.stage.name}", "experiment=gpu"]
        own["ppo_gpu"] = TrainingContender(_model(compose(stage)))
    return own


def _model(cfg: Config) -> BaseAlgorithm:
    learner = make_learner(cfg)
    assert isinstance(learner, SB3Learner)
    return learner.model
