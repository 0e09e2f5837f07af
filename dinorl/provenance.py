"""Where a result comes from: commit and versions."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import dinorl

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
