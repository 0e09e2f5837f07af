"""Signals during a stage: the first stops it after the next checkpoint, the second at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from dinorl.files.process import HURRY, on_stop

# Sent by the command to its jobs.
PASSED_ON = signal.SIGUSR1
PATIENCE = 5.0  # s, for the checkpoint


class Interrupted(KeyboardInterrupt):
    """The stage was stopped; its checkpoint is written."""


class Interruption:
    """Context manager that listens for signals, in the main thread only.

    Attributes:
        signum: the signal received, 0 for none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._reason = ""
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = on_stop(self._receive)
            self._before[PASSED_ON] = signal.signal(PASSED_ON, self._receive_passed_on)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def request(self, reason: str) -> None:
        """Stop the stage after its next checkpoint, as a signal does."""
        self._receive_passed_on(PASSED_ON, None)
        self._reason = reason

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if not self.signum:
            self.signum, self._since = signum, time.monotonic()
        elif signum in HURRY:
            raise KeyboardInterrupt

    def _receive_passed_on(self, signum: int, frame: FrameType | None) -> None:
        """Handle an interruption of the command; this job may have received that signal too."""
        if not self.signum:
            self._receive(signal.SIGTERM, frame)

    def check(self, kept: bool, timesteps: int) -> None:
        """Stop the stage if it was interrupted.

        Args:
            kept: a checkpoint was just written; otherwise wait for it up to ``PATIENCE`` seconds.
            timesteps: environment steps so far.

        Raises:
            Interrupted: the stage stops now.
        """
        if self.signum and (kept or time.monotonic() - self._since > PATIENCE):
            raise Interrupted(f"{self._reason or signal.Signals(self.signum).name} at {timesteps:,} steps")
