"""The gate of a stage: which thresholds an evaluation must meet, and for how many evaluations in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dinorl.config import CurriculumConfig

# Each threshold of the config, and the evaluation's metric that it holds against; min_* from below, max_* from above.
THRESHOLDS = {
    "min_avg_reward": "return_mean",
    "min_avg_episode_length": "length_mean",
    "min_avg_forward_vel": "forward_speed_mean_mps",
    "min_avg_approach_vel": "approach_speed_mean_mps",
    "min_gait_alternation": "gait.alternation",
    "max_fall_rate": "fall_rate",
    "min_success_rate": "success_rate",
    "min_success_lcb": "success_lcb95",
}


@dataclass(frozen=True)
class Check:
    """One threshold, held against one evaluation."""

    key: str
    value: float
    threshold: float

    @property
    def holds(self) -> bool:
        """Whether the threshold is met."""
        return self.value <= self.threshold if self.key.startswith("max_") else self.value >= self.threshold


class Gate:
    """Counts the evaluations in a row that met every threshold set.

    Attributes:
        consecutive: how many they are now.
    """

    def __init__(self, curriculum: CurriculumConfig) -> None:
        thresholds = {key: getattr(curriculum, key) for key in THRESHOLDS}
        self.thresholds: dict[str, float] = {key: value for key, value in thresholds.items() if value is not None}
        self.required = curriculum.required_consecutive
        self.consecutive = 0

    def checks(self, metrics: Mapping[str, float]) -> list[Check]:
        """Hold an evaluation's metrics against the thresholds that are set."""
        return [Check(key, metrics[THRESHOLDS[key]], value) for key, value in self.thresholds.items()]

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether an evaluation meets every threshold; with none set there is nothing to meet, so no."""
        checks = self.checks(metrics)
        return bool(checks) and all(check.holds for check in checks)

    def update(self, metrics: Mapping[str, float]) -> bool:
        """Count an evaluation in; return whether the gate is passed now."""
        self.consecutive = self.consecutive + 1 if self.holds(metrics) else 0
        return self.consecutive >= self.required

    def state(self) -> str:
        """Return the count for a progress line, such as ``2/3``."""
        return f"{self.consecutive}/{self.required}" if self.thresholds else "none"
