"""A bundle as an MLflow model: observations to actions.

MLflow finds this module by the name in the model's ``MLmodel`` file, so nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.player import load_player
from dinorl.files.run_folder import BundleFolder

# The files of a bundle that acting needs.
FILES = tuple(entry.name for entry in (BundleFolder.policy, BundleFolder.normalization, BundleFolder.meta,
                                       BundleFolder.config))  # fmt: skip


class Actor:
    """A bundle's deterministic policy with MLflow's ``predict``.

    Args:
        bundle: its policy acts.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._act = load_player(bundle)

    def predict(self, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Return actions (n, actuators) for raw observations (n, obs); there are no params."""
        return self._act(np.asarray(model_input, dtype=np.float32))


def _load_pyfunc(path: str) -> Actor:
    """Return the model in a folder; MLflow calls this.

    Raises:
        ConfigError: the bundle is damaged, or its animal is not here.
    """
    return Actor(Bundle.open(Path(path)))


def describe(bundle: Bundle, actuators: int) -> dict[str, Any]:
    """Return what MLflow needs to log a bundle as a model, as JSON; its example is the mean observation.

    Args:
        bundle: to log.
        actuators: size of an action.
    """
    mean = bundle.arrays("normalization")["obs_mean"]
    return {"loader": __name__, "files": FILES, "example": mean.astype(np.float32).tolist(), "actions": actuators}
