"""The interface of a learning algorithm: one protocol, one file an algorithm.

``dinorl/learners/<name>.py`` implements ``algo.name=<name>``; its function ``make`` builds the learner.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from dinorl.config import Config, HandOver
from dinorl.envs.batch import BatchEnv, Episodes
from dinorl.evaluation.evaluator import Policy
from dinorl.sim.devices import on_cpu

Arrays = dict[str, np.ndarray]


class Hooks(Protocol):
    """Callbacks of a stage during learning."""

    def training_started(self) -> None:
        """Before the first rollout."""

    def rollout_started(self) -> None:
        """Between an update and the next rollout, where the learner's full state can be saved."""

    def stepped(self) -> bool:
        """After a step of the batch; return False to end learning."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive metrics of updates, ``train/…``."""


class Learner(Protocol):
    """Learns a stage's policy on a batch of animals.

    Attributes:
        batch: the training animals.
        resumable: whether its full state can be saved, so that a stage resumes bit for bit.
    """

    batch: BatchEnv
    resumable: bool

    @property
    def timesteps(self) -> int:
        """Environment steps so far, summed over all animals."""

    @property
    def updates(self) -> int:
        """Updates so far, in the algorithm's own count."""

    def learn(self, timesteps: int, hooks: Hooks) -> None:
        """Train for ``timesteps`` more environment steps, or until a hook ends learning."""

    def policy(self) -> Policy:
        """Return the policy without noise: (n, obs) raw observations to (n, actuators) actions."""

    def explore(self, log_std: float) -> None:
        """Set the standard deviation of actions to ``exp(log_std)``."""

    def apply_schedules(self) -> None:
        """Set scheduled values that the library does not schedule itself."""

    def drain_episodes(self) -> list[Episodes]:
        """Return the training episodes that ended since the last call."""

    def describe(self) -> tuple[list[str], dict[str, float]]:
        """Return lines for the user and constants to log, such as the replay ratio."""

    def pending(self) -> dict[str, float]:
        """Return ``train/…`` metrics that are not logged yet."""

    def record(self, metrics: Mapping[str, float]) -> None:
        """Restore metrics from :meth:`pending`."""

    def state(self) -> dict[str, Arrays]:
        """Return ``policy``, ``optimizer``, ``normalization`` and ``random``: the files of a bundle."""

    def warm_start(self, files: Mapping[str, Arrays], hand_over: HandOver = "all") -> None:
        """Load what another stage hands over.

        Args:
            files: ``policy`` and ``normalization`` as :meth:`state` returns them.
            hand_over: ``all``: policy, value estimates and observation statistics; ``policy``: without value estimates;
                ``statistics``: of observations alone; ``nothing``.

        Raises:
            ConfigError: they are of another animal, algorithm or network.
        """

    def load(self, files: Mapping[str, Arrays]) -> None:
        """Load :meth:`state`, including the process's random states."""

    def position(self) -> Arrays:
        """Return what resuming needs besides :meth:`state`: counters, episodes, physics."""

    def restore(self, position: Mapping[str, np.ndarray], experience: Mapping[str, np.ndarray]) -> None:
        """Resume from a :meth:`position` and the result of :meth:`read_experience`."""

    def save_experience(self, folder: Path) -> None:
        """Append new experience to a folder; nothing for on-policy algorithms."""

    def read_experience(self, folder: Path, timesteps: int) -> Arrays:
        """Return the experience after ``timesteps`` environment steps, without loading it.

        Raises:
            ValueError, OSError, ConfigError: some of it is missing or damaged.
        """

    def trim_experience(self, folder: Path, timesteps: int) -> None:
        """Delete experience older than the oldest bundle, of ``timesteps`` environment steps, needs."""

    def close(self) -> None:
        """Free what the environment holds."""


def make_learner(cfg: Config, learning: bool = True) -> Learner:
    """Build the learner of a composed config, seeded with ``cfg.seed``.

    Args:
        cfg: the composed config.
        learning: False to act only: one animal, minimal buffers, on the CPU.

    Raises:
        ConfigError: MuJoCo Warp or a GPU is missing.
    """
    cfg = cfg if learning else on_cpu(cfg)
    learner: Learner = import_module(f"dinorl.learners.{cfg.algo.name}").make(cfg, learning)
    return learner
