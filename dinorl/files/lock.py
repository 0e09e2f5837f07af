"""A lock on a folder, held by a process for as long as it writes there, and let go by whatever ends it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)
_BUSY = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder; where the file system has no locks, do without.

    Args:
        folder: it must exist.
        patience: how long to wait for another one to let go, s.

    Raises:
        BlockingIOError: another one holds it.
    """
    end = time.monotonic() + patience
    held = os.open(folder, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in _BUSY:
                    log.warning("%s cannot be locked (%s): no second command may write there", folder, error.strerror)
                    break
                if time.monotonic() >= end:
                    raise BlockingIOError(error.errno, "another process writes there", str(folder)) from error
                time.sleep(0.05)
        yield
    finally:
        os.close(held)
