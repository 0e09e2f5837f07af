"""What every process of dinorl needs of the system: signals that stop it, and output that cannot."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

# Ctrl-C, kill, a closed terminal.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HURRY = (signal.SIGINT, signal.SIGTERM)  # a closing terminal may send SIGHUP twice


def stops() -> list[int]:
    """Return the signals that stop this process; ``nohup`` has SIGHUP ignored."""
    return [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]


def on_stop(handler: Callable[..., Any] | int) -> dict[int, Any]:
    """Handle the signals of :func:`stops`; return the handlers before."""
    return {number: signal.signal(number, handler) for number in stops()}


def unbreakable_output() -> None:
    """Make standard output and error never fail: what cannot be written or encoded is not shown.

    A terminal closes, ``head`` ends, a file system fills up, or a locale has no ``±``.
    """
    _open_missing()
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            with contextlib.suppress(OSError):
                stream.flush()
            replacement = io.TextIOWrapper(
                io.BufferedWriter(_Output(number)), stream.encoding, "backslashreplace",
                line_buffering=stream.line_buffering or number == 2,
            )  # fmt: skip
            setattr(sys, name, replacement)
            setattr(sys, f"__{name}__", replacement)


def _open_missing() -> None:
    """Open closed standard descriptors: the next opened file, such as a database, would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Output(io.RawIOBase):
    """A descriptor that is replaced by the null device when it cannot be written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, data: Any) -> int:
        try:
            return os.write(self._number, data)
        except BlockingIOError:
            select.select([], [self._number], [])
            return self.write(data)
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._number)  # for output of libraries in C too
            os.close(null)
            return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)
