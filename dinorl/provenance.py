"""Where a result comes from: commit and versions."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import dinorl

_IMPORTED = time.monotonic()
_PACKAGES = ("stable_baselines3", "torch", "mujoco", "gymnasium", "numpy", "hydra-core", "mlflow")


@lru_cache
def git_sha() -> str | None:
    """Return the commit of the checkout that dinorl is run from, or None outside of one."""
    folder = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def versions() -> dict[str, str]:
    """Return the versions of everything that a result depends on."""
    found = {name: version(name) for name in _PACKAGES}
    return found | {"python": platform.python_version(), "dinorl": dinorl.__version__}


def seconds_since_start() -> float:
    """Return how long this process has lived, s: from the command, not from the first import.

    On Linux the kernel knows; elsewhere it is counted from when Python was told of this module.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - float(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.monotonic() - _IMPORTED
