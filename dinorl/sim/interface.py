"""The interface of a physics backend; ``dinorl.sim.cpu`` implements it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import mujoco
import numpy as np

from dinorl.tasks.body import Array


class Simulation(Protocol):
    """``n`` simulations of one :class:`dinorl.sim.model.Animal`; its ``layout`` names the sensor columns.

    Arrays are (n, …), of one array library and on one device.

    Attributes:
        sensors: (n, sensors) readings. After :meth:`step` from the beginning of its last physics step, a few ms old as
            on a robot; after :meth:`refresh` current.
        substeps: (n, frame_skip, sensors) readings of every physics step of the last control step.
        qpos: (n, nq) live and writable, m and rad, quaternions (w, x, y, z); call :meth:`refresh` after writing.
        qvel: (n, nv) likewise, m/s and rad/s.
        target: (n, 3) position of the target, m, world; likewise.
        diverged: (n,) bool, simulations that became unstable in the last :meth:`step`.
        before: (n, state) MuJoCo's integration state (``mjSTATE_INTEGRATION``) as the last :meth:`step` began.
    """

    sensors: Array
    substeps: Array
    qpos: Array
    qvel: Array
    target: Array
    diverged: Array
    before: Array

    def step(self, action: Array, only: Array | None = None) -> None:
        """Advance one control step.

        Args:
            action: (n, actuators) in [-1, 1]; 0 is the home pose, -1 and 1 are the limits of each joint.
            only: (m,) advance only these simulations; the others do not change. Default: all.
        """

    def reset(self, ids: Array) -> None:
        """Put the (m,) named simulations into the home pose; then write their state and :meth:`refresh`."""

    def repair(self, ids: Array) -> None:
        """Put (m,) diverged simulations into the home pose; sensors and substeps are of that pose."""

    def refresh(self, ids: Array) -> None:
        """Bring the sensors of the (m,) named simulations up to date."""

    def state(self) -> dict[str, np.ndarray]:
        """Return the full state; see :meth:`restore`."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a :meth:`state` of as many simulations of the same animal."""

    def show(self, index: int, data: mujoco.MjData) -> None:
        """Put one simulation's state into an MjData of ``animal.drawn``."""
