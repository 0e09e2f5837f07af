"""Commit, versions and start time of a result."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

import dinorl

_IMPORTED = time.monotonic()
_started: float | None = None
_PACKAGES = ("stable_baselines3", "torch", "mujoco", "gymnasium", "numpy", "hydra-core", "mlflow")


@cache
def git_sha() -> str | None:
    """Return the commit of dinorl's checkout, or None outside of one."""
    folder = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def versions() -> dict[str, str]:
    """Return the versions of packages that affect results."""
    return {name: _version(name) for name in _PACKAGES} | {
        "python": platform.python_version(), "dinorl": dinorl.__version__,
    }  # fmt: skip


@cache
def _version(name: str) -> str:
    """Return an installed package's version; it is in a long text, and every bundle names it."""
    return version(name)


def started() -> float:
    """Return the command's start, monotonic clock, s; outside of Linux, this module's import."""
    global _started
    if _started is None:
        try:
            fields = Path("/proc/self/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            lived = time.clock_gettime(time.CLOCK_BOOTTIME) - float(fields[19]) / os.sysconf("SC_CLK_TCK")
            _started = time.monotonic() - lived
        except (OSError, AttributeError):
            _started = _IMPORTED
    return _started


def set_started(moment: float) -> None:
    """Set the start of this process's command; see :func:`started`."""
    global _started
    _started = moment


def seconds_since_start() -> float:
    """Return the seconds since the command started."""
    return time.monotonic() - started()
