"""The interface of a stage's listeners, such as MLflow and the terminal.

A listener can stop a stage only by its result of ``evaluated``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
PASSED = "gate.passed"  # beside an evaluation's metrics: 1 if the stage ends with it


@dataclass(frozen=True)
class Progress:
    """How far a stage is."""

    step: int  # environment steps
    total: int  # the budget
    rate: float  # environment steps per second
    episode_return: float  # mean of recent training episodes
    episode_length: float  # control steps, likewise
    gate: str  # such as 1/3


class Listener:
    """Listens to one stage; every method does nothing by default."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive metrics at an environment step."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Receive a complete file or folder."""

    def log_model(self, path: Path, model: Mapping[str, Any]) -> None:
        """Receive the best bundle; ``model`` describes it for :mod:`dinorl.tracking.models`."""

    def note(self, text: str) -> None:
        """Receive a description of the run, in Markdown."""

    def progress(self, progress: Progress) -> None:
        """Receive the progress, about once a second."""

    def say(self, text: str) -> None:
        """Receive a line for the user."""

    def flush(self) -> None:
        """Write received data to disk, before a bundle is written."""

    def saved(self, step: int) -> None:
        """Receive that a bundle was written, at an environment step."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Receive an evaluation's metrics and :data:`PASSED`; return True to stop the stage.

        A stage that is resumed where it was evaluated sends that evaluation again.
        """
        return False


class Listeners(Listener):
    """Forwards everything to several listeners; an error in one of them is logged, and the stage goes on.

    Attributes:
        seconds: time spent in them.
    """

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners = tuple(listeners)
        self.seconds = 0.0

    def _each(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every listener; return the results of those without an error."""
        begun, results = time.perf_counter(), []
        for listener in self._listeners:
            try:
                results.append(getattr(listener, method)(*arguments))
            except (Exception, SystemExit):
                log.exception("%s.%s failed", type(listener).__name__, method)
        self.seconds += time.perf_counter() - begun
        return results

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Pass on metrics."""
        self._each("log_metrics", metrics, step)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Pass on an artifact."""
        self._each("log_artifact", path, folder)

    def log_model(self, path: Path, model: Mapping[str, Any]) -> None:
        """Pass on a model."""
        self._each("log_model", path, model)

    def note(self, text: str) -> None:
        """Pass on a description."""
        self._each("note", text)

    def progress(self, progress: Progress) -> None:
        """Pass on the progress."""
        self._each("progress", progress)

    def say(self, text: str) -> None:
        """Pass on a line."""
        self._each("say", text)

    def flush(self) -> None:
        """Flush all.

        Raises:
            OSError: one of them cannot write; what it received would be lost.
        """
        for listener in self._listeners:
            listener.flush()

    def saved(self, step: int) -> None:
        """Notify all."""
        self._each("saved", step)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Notify all; return whether any stops the stage."""
        return any(self._each("evaluated", step, metrics))
