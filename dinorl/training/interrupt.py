"""Ctrl-C and SIGTERM while a stage trains: the first asks it to keep what it has and stop, the second stops at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

# The signal by which a command passes its own interruption on to its jobs: they may have heard that one themselves.
PASSED_ON = signal.SIGUSR1
# A stage that is asked to stop does so at its next update; it is not waited for longer than this, s.
PATIENCE = 5.0


class Interrupted(KeyboardInterrupt):
    """The stage was asked to stop, and has kept what it had."""


class Interruption:
    """Listens while it is entered; in threads other than the main one nothing can be heard.

    Attributes:
        signum: the signal that came, 0 for none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
            self._before[PASSED_ON] = signal.signal(PASSED_ON, self._hear_passed_on)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            raise KeyboardInterrupt
        self.signum, self._since = signum, time.monotonic()

    def _hear_passed_on(self, signum: int, frame: FrameType | None) -> None:
        """The command that started this job was interrupted; the signal may have reached the job by itself too."""
        if not self.signum:
            self._hear(signal.SIGTERM, frame)

    def check(self, kept: bool) -> None:
        """Stop the stage if that was asked for, and what it has is kept or keeping it would take too long.

        Raises:
            Interrupted: the stage is to stop now.
        """
        if self.signum and (kept or time.monotonic() - self._since > PATIENCE):
            raise Interrupted(signal.Signals(self.signum).name)
