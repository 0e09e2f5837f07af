"""The evaluations of a stage: every one a row of eval.csv, and which policy was the best."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinorl.files.run_folder import whole_file


class EvaluationTable:
    """The rows of ``eval.csv``.

    Args:
        path: of the file.

    Attributes:
        rows: one for each evaluation of the policy and of the null policies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []

    def add(self, timesteps: int, policy: str, gate: str, metrics: Mapping[str, float]) -> None:
        """Add a row: an evaluation of ``policy``, or of the null policies ``zero`` and ``random``."""
        self.rows.append({"timesteps": timesteps, "policy": policy, "gate": gate, **metrics})

    def write(self) -> None:
        """Write the file, whole or not at all."""
        if not self.rows:
            return
        with whole_file(self._path) as building, building.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)


class Best:
    """The best evaluation so far: of those that meet the gate, if any does, the highest mean less one deviation.

    Attributes:
        rank: whether it met the gate, and mean return less one standard deviation.
        metrics: its metrics.
    """

    def __init__(self) -> None:
        self.rank: tuple[bool, float] = (False, -math.inf)
        self.metrics: dict[str, float] = {}

    def update(self, metrics: dict[str, float], meets_gate: bool) -> bool:
        """Count an evaluation in; return whether it is the best."""
        # the gate first: a slow run without a fall can be paid more than the fast one that passes
        rank = (meets_gate, metrics["return_mean"] - metrics["return_std"])
        better = rank > self.rank
        if better:
            self.rank, self.metrics = rank, metrics
        return better
