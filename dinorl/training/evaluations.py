"""The evaluations of a stage: the rows of eval.csv and the best policy."""

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
        rows: one for each evaluation, null policies included.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []

    def add(self, timesteps: int, policy: str, gate: str, metrics: Mapping[str, float]) -> None:
        """Add a row; ``policy`` may be a null policy, ``zero`` or ``random``."""
        self.rows.append({"timesteps": timesteps, "policy": policy, "gate": gate, **metrics})

    def write(self) -> None:
        """Write the file atomically."""
        if not self.rows:
            return
        with whole_file(self._path) as building, building.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)


class Best:
    """The best evaluation so far: first by meeting the gate, then by mean return less one deviation.

    Attributes:
        rank: (meets the gate, mean return less one standard deviation).
        metrics: its metrics.
    """

    def __init__(self) -> None:
        self.rank: tuple[bool, float] = (False, -math.inf)
        self.metrics: dict[str, float] = {}

    def update(self, metrics: dict[str, float], meets_gate: bool) -> bool:
        """Update with an evaluation; return whether it is the best."""
        # slow and safe may earn more than passing
        rank = (meets_gate, metrics["return_mean"] - metrics["return_std"])
        better = rank > self.rank
        if better:
            self.rank, self.metrics = rank, metrics
        return better
