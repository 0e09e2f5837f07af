"""What a learning algorithm is to the rest of dinorl: one protocol, and one file an algorithm.

``dinorl/learners/<name>.py`` implements the algorithm that ``algo.name`` calls by that name; its function ``make``
builds the learner.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from dinorl.config import Config
from dinorl.envs.batch import BatchEnv, Episodes
from dinorl.evaluation.evaluator import Policy

Arrays = dict[str, np.ndarray]


class Hooks(Protocol):
    """What a stage does while its learner learns."""

    def training_started(self) -> None:
        """Before the first rollout."""

    def rollout_started(self) -> None:
        """Between an update and the next rollout: all of the learner's state can be saved here."""

    def stepped(self) -> bool:
        """After a step of the batch; return False to end learning."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive what the algorithm measures of its updates, ``train/…``."""


class Learner(Protocol):
    """Learns a stage's policy on a batch of animals.

    Attributes:
        batch: the animals that it trains on.
        resumable: whether its state can be saved in full, so that an interrupted stage resumes to the bit.
    """

    batch: BatchEnv
    resumable: bool

    @property
    def timesteps(self) -> int:
        """Environment steps so far, summed over all animals."""

    @property
    def updates(self) -> int:
        """Updates so far, as the algorithm counts them."""

    def learn(self, timesteps: int, hooks: Hooks) -> None:
        """Train for so many more environment steps, or until a hook ends learning."""

    def policy(self) -> Policy:
        """Return the policy without noise: (n, obs) raw observations to (n, actuators) actions."""

    def explore(self, log_std: float) -> None:
        """Set the standard deviation of actions to ``exp(log_std)``."""

    def apply_schedules(self) -> None:
        """Set what depends on the stage's progress and no library schedules by itself."""

    def drain_episodes(self) -> list[Episodes]:
        """Return the training episodes that ended since the last call."""

    def describe(self) -> tuple[list[str], dict[str, float]]:
        """Return lines for the person and constants to log, such as the replay ratio."""

    def pending(self) -> dict[str, float]:
        """Return ``train/…`` metrics that were measured and not yet logged."""

    def record(self, metrics: Mapping[str, float]) -> None:
        """Take back what :meth:`pending` returned."""

    def state(self) -> dict[str, Arrays]:
        """Return ``policy``, ``optimizer``, ``normalization`` and ``random``: the files of a bundle."""

    def warm_start(self, files: Mapping[str, Arrays]) -> None:
        """Load policy weights and observation statistics: the hand-over between stages.

        Args:
            files: ``policy`` and ``normalization`` as :meth:`state` returns them.

        Raises:
            ConfigError: they are of another animal, algorithm or network.
        """

    def load(self, files: Mapping[str, Arrays]) -> None:
        """Load everything that :meth:`state` returned; random states of the process are set too."""

    def position(self) -> Arrays:
        """Return what :meth:`state` lacks to go on in mid-stage: counters, episodes, physics."""

    def restore(self, position: Mapping[str, np.ndarray], experience: Mapping[str, np.ndarray]) -> None:
        """Go on from a :meth:`position`, with what :meth:`read_experience` returned."""

    def save_experience(self, folder: Path) -> None:
        """Add what was gathered since the last call to a folder; nothing for on-policy algorithms."""

    def read_experience(self, folder: Path, timesteps: int) -> Arrays:
        """Return the experience as it was after so many environment steps; nothing has been loaded yet.

        Raises:
            ValueError, OSError, ConfigError: some of it is missing or damaged.
        """

    def trim_experience(self, folder: Path, timesteps: int) -> None:
        """Delete what a bundle of so many environment steps, the oldest kept, no longer needs."""

    def close(self) -> None:
        """Free what the environment holds."""


def make_learner(cfg: Config, learning: bool = True) -> Learner:
    """Build the learner of a composed config; everything it does at random follows ``cfg.seed``.

    Args:
        cfg: the composed config.
        learning: False for one that only acts: one animal, no room for experience.
    """
    learner: Learner = import_module(f"dinorl.learners.{cfg.algo.name}").make(cfg, learning)
    return learner
