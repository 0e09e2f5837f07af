"""Shared code of learners from Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from joblib import cpu_count
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from dinorl.config import POLICY_HANDED_OVER, Config, ConfigError, HandOver
from dinorl.envs.batch import Episodes
from dinorl.evaluation.evaluator import Policy
from dinorl.learners import state
from dinorl.learners.base import Arrays, Hooks
from dinorl.learners.callback import HookCallback, HookWriter
from dinorl.learners.vec_env import DinoVecEnv, MirrorVecEnv

ACTIVATIONS = {"elu": torch.nn.ELU, "relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
# Added to the variance: near-constant inputs must not blow up in the next stage.
OBS_EPSILON = 0.01
OBS_CLIP = 10.0

# First training seed, above all evaluation seeds; each cfg.seed has a block.
TRAINING_SEEDS = 1 << 40
SEEDS_PER_RUN = 1 << 20


def make_env(cfg: Config, learning: bool) -> VecNormalize:
    """Return the training environment: normalised, and mirrored if configured.

    Args:
        cfg: the composed config.
        learning: False for one animal, to act on.
    """
    if learning:
        torch.set_num_threads(cfg.sim.threads or cpu_count())
    raw = DinoVecEnv(cfg, stagger=True) if learning else DinoVecEnv(cfg, 1)
    return normalized(MirrorVecEnv(raw) if cfg.algorithm.policy_kwargs.mirror else raw, cfg.algorithm.gamma)


def raw_env(env: VecNormalize) -> DinoVecEnv:
    """Return the environment below its wrappers."""
    raw = env.unwrapped
    assert isinstance(raw, DinoVecEnv)
    return raw


def normalized(env: VecEnv, gamma: float) -> VecNormalize:
    """Normalise observations and rewards; ``gamma`` must be the algorithm's."""
    return VecNormalize(env, gamma=gamma, clip_obs=OBS_CLIP, epsilon=OBS_EPSILON)


class SB3Learner:
    """A Stable-Baselines3 model on a normalised environment; see :class:`dinorl.learners.base.Learner`.

    It keeps no experience: algorithms with a replay buffer override that.

    Attributes:
        value_estimates: prefixes of the value estimates' weights.

    Args:
        cfg: the composed config.
        model: the algorithm.
        env: the model's environment.
    """

    value_estimates: ClassVar[tuple[str, ...]]
    resumable = True

    def __init__(self, cfg: Config, model: BaseAlgorithm, env: VecNormalize) -> None:
        self.cfg, self.model, self.env = cfg, model, env
        self.mirror = env.venv.mirror if isinstance(env.venv, MirrorVecEnv) else None
        self.raw = raw_env(env)
        self.batch = self.raw.batch
        env.seed(TRAINING_SEEDS + cfg.seed * SEEDS_PER_RUN)  # SB3 seeded from cfg.seed
        self._writer = HookWriter()
        model.set_logger(Logger(folder=None, output_formats=[self._writer]))
        self._resumed = False

    @property
    def timesteps(self) -> int:
        """Environment steps so far, summed over all animals."""
        return self.model.num_timesteps

    @property
    def updates(self) -> int:
        """Updates so far."""
        return int(getattr(self.model, "_n_updates", 0))

    def learn(self, timesteps: int, hooks: Hooks) -> None:
        """Train for ``timesteps`` more environment steps, or until a hook ends learning."""
        self._writer.hooks = hooks
        self.model.learn(timesteps, HookCallback(hooks), reset_num_timesteps=not self._resumed)

    def policy(self) -> Policy:
        """Return the policy without noise, on raw observations."""
        mirror, model, env = self.mirror, self.model, self.env

        def act(observation: np.ndarray) -> np.ndarray:
            where = np.zeros(len(observation), dtype=bool) if mirror is None else mirror.second_half(observation)
            shown = observation if mirror is None else mirror.shown(observation, where)
            action, _ = model.predict(env.normalize_obs(shown), deterministic=True)
            return action if mirror is None else mirror.acted(action, where)

        return act

    def drain_episodes(self) -> list[Episodes]:
        """Return the training episodes that ended since the last call."""
        return self.raw.drain_episodes()

    def describe(self) -> tuple[list[str], dict[str, float]]:
        """Return nothing."""
        return [], {}

    def pending(self) -> dict[str, float]:
        """Return ``train/…`` metrics that are not logged yet."""
        return {k: float(v) for k, v in self.model.logger.name_to_value.items() if k.startswith("train/")}

    def record(self, metrics: Mapping[str, float]) -> None:
        """Restore metrics from :meth:`pending`."""
        for key, value in metrics.items():
            self.model.logger.record(key, value)

    @property
    def _progress_remaining(self) -> float:
        return 1.0 - self.timesteps / self.cfg.curriculum.timesteps

    # State -----------------------------------------------------------------------------------------------------------

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"policy": self.model.policy.optimizer}

    def _policy_arrays(self) -> Arrays:
        return state.module_arrays(self.model.policy.state_dict())

    def state(self) -> dict[str, Arrays]:
        """Return the files of a bundle."""
        return {
            "policy": self._policy_arrays(),
            "optimizer": state.optimizer_arrays(self._optimizers()),
            "normalization": state.normalization_arrays(self.env),
            "random": state.random_arrays(),
        }

    def warm_start(self, files: Mapping[str, Arrays], hand_over: HandOver = "all") -> None:
        """Load what another stage hands over."""
        if hand_over in POLICY_HANDED_OVER:
            self._load_weights(files["policy"], () if hand_over == "all" else self.value_estimates)
        if hand_over != "nothing":
            state.load_statistics(files["normalization"], "obs", self.env.obs_rms)

    def _load_weights(self, weights: Arrays, but: tuple[str, ...]) -> None:
        """Load the policy's weights ``but`` those with these prefixes."""
        own = {key: value for key, value in self.model.policy.state_dict().items() if not key.startswith(but)}
        for key, value in own.items():
            if key not in weights or weights[key].shape != value.shape or weights[key].dtype.kind != "f":
                found = "nothing" if key not in weights else f"{weights[key].dtype} {weights[key].shape}"
                raise ConfigError(f"expected {key} of float {tuple(value.shape)}, found {found}")
        self.model.policy.load_state_dict({key: torch.from_numpy(weights[key]) for key in own}, strict=False)

    def load(self, files: Mapping[str, Arrays]) -> None:
        """Load :meth:`state`."""
        self.warm_start(files)
        state.load_optimizers(self._optimizers(), files["optimizer"])
        state.load_statistics(files["normalization"], "reward", self.env.ret_rms)
        self.env.returns = files["normalization"]["discounted_returns"]
        state.load_random(files["random"])

    def position(self) -> Arrays:
        """Return counters, episodes and physics."""
        model: Any = self.model
        own = {
            "num_timesteps": model.num_timesteps,
            "updates": model._n_updates,
            "episode_num": model._episode_num,
            "last_obs": model._last_obs,
            "last_original_obs": model._last_original_obs,
            "last_episode_starts": model._last_episode_starts,
        }
        batch = {f"batch/{key}": value for key, value in self.batch.state().items()}
        return {f"algorithm/{key}": np.asarray(value) for key, value in own.items()} | batch

    def restore(self, position: Mapping[str, np.ndarray], experience: Mapping[str, np.ndarray]) -> None:
        """Resume from a :meth:`position`."""
        self.batch.restore(_below("batch/", position))
        own = _below("algorithm/", position)
        model: Any = self.model
        model.num_timesteps = int(own["num_timesteps"])
        model._n_updates = int(own["updates"])
        model._episode_num = int(own["episode_num"])
        model._last_obs = own["last_obs"]
        model._last_original_obs = own["last_original_obs"]
        model._last_episode_starts = own["last_episode_starts"]
        self._resumed = True

    def save_experience(self, folder: Path) -> None:
        """Do nothing."""

    def read_experience(self, folder: Path, timesteps: int) -> Arrays:
        """Return nothing."""
        return {}

    def trim_experience(self, folder: Path, timesteps: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Free what the environment holds."""
        self.raw.close()


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
