"""Batched physics: (n, …) arrays in, (n, …) arrays out. No task, no reward, no episode is known here."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
from joblib import cpu_count
from mujoco.batch import Batch, SimulationError

from dinorl.sim.model import Animal

# What MuJoCo warns of when it finds a simulation unusable and stops it (mj_checkPos, mj_checkVel, mj_checkAcc).
_DIVERGED = [
    mujoco.mjtWarning.mjWARN_BADQPOS.value,
    mujoco.mjtWarning.mjWARN_BADQVEL.value,
    mujoco.mjtWarning.mjWARN_BADQACC.value,
]


class Simulation:
    """``n`` simulations of one animal on a thread pool.

    Args:
        threads: how many threads step them; 0: one for each core that this process may use, which in a container or
            under ``taskset`` are fewer than the machine has.

    Attributes:
        sensors: (n, sensors) readings. After :meth:`step` they are those of its last physics step, taken at that step's
            beginning: 4 ms old, as a robot's are. Bringing all of them up to date costs a tenth of the speed and
            changes nothing that can be learned. After :meth:`refresh` they are current.
        substeps: (n, frame_skip, sensors) every physics step of the last control step.
        qpos, qvel: (n, nq), (n, nv) live views, writable; call :meth:`refresh` after writing.
        target: (n, 3) position of the mocap target, m, world; likewise.
        diverged: (n,) which simulations broke down in the last :meth:`step`.
        before: (n, state) MuJoCo's integration state, as the last :meth:`step` began.
    """

    def __init__(self, animal: Animal, n: int, frame_skip: int, threads: int) -> None:
        self.animal = animal
        self.n = n
        self.frame_skip = frame_skip
        model = animal.model
        self._batch = Batch(model, n, min(threads or cpu_count(), n))
        self._batch.reset(keyframe=model.key("home").id)
        self._home = self._batch.state[0].copy()
        self._span_up, self._span_down = animal.ctrl_high - animal.home_ctrl, animal.home_ctrl - animal.ctrl_low
        self.qpos, self.qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")
        self.target = self._batch.bind("mocap_pos")[:, animal.target_mocap]
        self._sensordata = self._batch.bind("sensordata")
        self.substeps = np.zeros((n, frame_skip, model.nsensordata))
        self.sensors = self.substeps[:, -1]
        self._readings = np.zeros_like(self.substeps)  # of a step that only some take
        self.diverged = np.zeros(n, dtype=bool)
        self.before = self._batch.state.copy()

    def step(self, action: np.ndarray, only: np.ndarray | None = None) -> None:
        """Advance one control step.

        Args:
            action: (n, actuators) in [-1, 1]; 0 is the home pose, -1 and 1 are the limits of each joint.
            only: (m,) advance these simulations; the others, and their readings, stay as they are. Default: all.
        """
        ctrl = self.animal.home_ctrl + action * np.where(action > 0.0, self._span_up, self._span_down)
        chosen = slice(None) if only is None else only
        self._ctrl[chosen] = ctrl[chosen]
        np.copyto(self.before, self._batch.state)
        warned = self._batch.warning[:, _DIVERGED, 1].sum(axis=1)
        self.diverged[:] = False
        readings = self.substeps if only is None else self._readings[: only.size]
        try:
            self._batch.rollout(self.frame_skip, record=["sensordata"], ids=only, out={"sensordata": readings})
        except SimulationError as error:
            self.diverged[error.ids] = True
        if only is not None:
            self.substeps[only] = readings
        self.diverged |= self._batch.warning[:, _DIVERGED, 1].sum(axis=1) > warned
        self.diverged |= ~np.isfinite(self.qvel.sum(axis=1) + self.qpos.sum(axis=1))

    def reset(self, ids: np.ndarray) -> None:
        """Put the named simulations into the home pose; write their state, then :meth:`refresh`."""
        self._batch.state[ids] = self._home  # a fifteenth of the time that the batch's own reset takes for a few

    def repair(self, ids: np.ndarray) -> None:
        """Put simulations that broke down into the home pose; MuJoCo forgets that they did."""
        self._batch.reset(ids, self.animal.model.key("home").id)

    def refresh(self, ids: np.ndarray) -> None:
        """Bring the sensors of the named simulations up to date."""
        self._batch.forward(ids)
        self.sensors[ids] = self._sensordata[ids]

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that the next step depends on; see :meth:`restore`."""
        return {"physics": self._batch.state.copy(), "substeps": self.substeps.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what :meth:`state` returned, of as many simulations of the same animal."""
        self._batch.state[:] = state["physics"]
        self.substeps[:] = state["substeps"]

    def show(self, index: int, data: mujoco.MjData) -> None:
        """Put one simulation's state into an MjData of the same animal, of the model that is drawn."""
        data.qpos[:], data.qvel[:] = self.qpos[index], self.qvel[index]
        data.mocap_pos[self.animal.target_mocap] = self.target[index]
