"""The gate of a stage: thresholds that consecutive evaluations must meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dinorl.config import CurriculumConfig

# Verdicts on a stage.
PASSED, STOPPED = "passed", "stopped_by_listener"
MISSED = ("advanced_on_budget", "stopped_on_budget")
# Threshold → metric; min_* is a lower bound.
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
    """A threshold checked against an evaluation."""

    key: str
    value: float
    threshold: float

    @property
    def holds(self) -> bool:
        """Whether the threshold is met."""
        return self.value <= self.threshold if self.key.startswith("max_") else self.value >= self.threshold


class Gate:
    """Counts consecutive evaluations that meet every threshold.

    Args:
        curriculum: of the stage; null thresholds are ignored.

    Attributes:
        consecutive: count so far.
    """

    def __init__(self, curriculum: CurriculumConfig) -> None:
        thresholds = {key: getattr(curriculum, key) for key in THRESHOLDS}
        self.thresholds: dict[str, float] = {key: value for key, value in thresholds.items() if value is not None}
        self.required = curriculum.required_consecutive
        self.consecutive = 0

    def checks(self, metrics: Mapping[str, float]) -> list[Check]:
        """Check an evaluation's metrics against the thresholds."""
        return [Check(key, metrics[THRESHOLDS[key]], value) for key, value in self.thresholds.items()]

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether an evaluation meets every threshold; False if there are none."""
        checks = self.checks(metrics)
        return bool(checks) and all(check.holds for check in checks)

    def update(self, metrics: Mapping[str, float]) -> bool:
        """Count an evaluation; return whether the gate is passed."""
        self.consecutive = self.consecutive + 1 if self.holds(metrics) else 0
        return self.consecutive >= self.required

    def state(self) -> str:
        """Return the count for a progress line, such as ``2/3``."""
        return f"{self.consecutive}/{self.required}" if self.thresholds else "none"
