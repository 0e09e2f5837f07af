"""Loaded first by the fork server of jobs: it outlives what stops them, so that their end is known, and is quick."""

import atexit
import gc
import os
import signal

from dinorl.files.process import STOPS


def _leave(server: int) -> None:
    """End without tearing down modules, which takes as long as a stage's start."""
    if os.getpid() == server:  # not a job
        os._exit(0)


for number in STOPS:
    signal.signal(number, signal.SIG_IGN)
gc.disable()  # imports make no garbage; jobs enable it
atexit.register(_leave, os.getpid())
