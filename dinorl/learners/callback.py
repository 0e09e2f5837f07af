"""Calls a stage's hooks from Stable-Baselines3's training loop."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from dinorl.learners.base import Hooks


class HookCallback(BaseCallback):
    """Calls hooks where Stable-Baselines3 calls its callbacks."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__()
        self._hooks = hooks

    def _on_training_start(self) -> None:
        self._hooks.training_started()

    def _on_rollout_start(self) -> None:
        self._hooks.rollout_started()

    def _on_step(self) -> bool:
        return self._hooks.stepped()


class HookWriter(KVWriter):
    """Passes Stable-Baselines3's ``train/*`` metrics to the hooks."""

    def __init__(self) -> None:
        self.hooks: Hooks | None = None

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:  # fmt: skip
        """Pass on ``train/*``; dinorl measures the rest."""
        if self.hooks is not None:
            metrics = {key: float(value) for key, value in key_values.items() if key.startswith("train/")}
            self.hooks.log_metrics(metrics, step)

    def close(self) -> None:
        """Do nothing: there is no file."""
