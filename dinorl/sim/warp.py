"""Batched physics with MuJoCo Warp, for NVIDIA GPUs; it also runs on the CPU. Knows no task.

Physics are float32. Between control steps the state lies in the host's memory, where the batch reads and writes it. A
control step is one graph: copy the state to the device, all physics steps with their sensors, copy back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import mujoco
import mujoco_warp as mjw
import numpy as np

from dinorl.config import SimConfig
from dinorl.sim.devices import import_warp, physics_device
from dinorl.sim.model import Animal

wp = import_warp()

_ROW = mujoco.mjtState.mjSTATE_INTEGRATION.value
# Arrays of mjw.Data that make up the state, with their parts of MuJoCo's integration state.
_STATE = {
    "qpos": mujoco.mjtState.mjSTATE_QPOS,
    "qvel": mujoco.mjtState.mjSTATE_QVEL,
    "qacc_warmstart": mujoco.mjtState.mjSTATE_WARMSTART,
    "ctrl": mujoco.mjtState.mjSTATE_CTRL,
    "mocap_pos": mujoco.mjtState.mjSTATE_MOCAP_POS,
}
# Arrays that a step changes.
_RESULTS = ("qpos", "qvel", "qacc_warmstart", "qacc", "overflow")
_LARGEST = 1e10  # MuJoCo's mjMAXVAL: beyond it a simulation is unstable
# What a lack of room is called; reaching the solver's last iteration is no lack.
_ROOMS = {
    "constraints": mjw.OverflowType.NEFC | mjw.OverflowType.NJMAX_NNZ,
    "contacts": mjw.OverflowType.BROADPHASE | mjw.OverflowType.NARROWPHASE | mjw.OverflowType.CCD,
}
_SMALLEST = 16  # simulations stepped together
_MOST_CONTACTS = 64
# Contacts of a geom with a plane; other geoms have up to 4.
_ON_PLANE = {
    mujoco.mjtGeom.mjGEOM_PLANE.value: 0,
    mujoco.mjtGeom.mjGEOM_SPHERE.value: 1,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID.value: 1,
    mujoco.mjtGeom.mjGEOM_CAPSULE.value: 2,
}


class Overflow(RuntimeError):
    """Some animals had more contacts or constraints than there is room for."""


def room(model: mujoco.MjModel) -> tuple[int, int]:
    """Return the contacts and the constraints to keep room for, for each animal.

    Enough for every geom on the floor and every declared pair, up to 64 contacts.
    """
    touching = (model.geom_contype > 0) | (model.geom_conaffinity > 0)
    contacts = sum(_ON_PLANE.get(int(kind), 4) for kind in model.geom_type[touching]) + 4 * model.npair
    contacts = min(max(contacts, 4), _MOST_CONTACTS)
    sides = 2 * max(int(model.geom_condim.max(initial=1)) - 1, 1)  # of a pyramidal friction cone
    held = int(model.jnt_limited.sum() + (model.dof_frictionloss > 0.0).sum()) + 6 * model.neq
    return contacts, held + sides * contacts


def columns(model: mujoco.MjModel) -> dict[str, slice]:
    """Return the columns of MuJoCo's integration state by the name of their array in ``mjw.Data``."""
    starts = {name: mujoco.mj_stateSize(model, _ROW & (part.value - 1)) for name, part in _STATE.items()}
    return {name: slice(at, at + mujoco.mj_stateSize(model, _STATE[name].value)) for name, at in starts.items()}


class Worlds:
    """A fixed number of simulations on one device.

    Args:
        model: of an animal.
        physics: the same on the device.
        size: simulations.
        frame_skip: physics steps of a control step.
        device: ``cpu`` or ``cuda``.

    Attributes:
        host: arrays of the host, (size, …), by their name in ``mjw.Data``; pinned on CUDA.
        readings: (frame_skip, size, sensors) of the host, of each physics step of the last :meth:`step`.
        current: (size, sensors) of the host, of the last :meth:`look`.
    """

    def __init__(self, model: mujoco.MjModel, physics: Any, size: int, frame_skip: int, device: str) -> None:
        self.size, self._physics, self._device = size, physics, device
        contacts, constraints = room(model)
        with wp.ScopedDevice(device):
            self._data = mjw.make_data(model, nworld=size, nconmax=contacts, njmax=constraints)
            self._measured = wp.zeros((frame_skip, size, model.nsensordata), dtype=float)
        self._host = {name: self._pinned(getattr(self._data, name)) for name in {*_STATE, *_RESULTS}}
        self._readings, self._current = self._pinned(self._measured), self._pinned(self._data.sensordata)
        self.host: dict[str, np.ndarray] = {name: array.numpy() for name, array in self._host.items()}
        self.readings: np.ndarray = self._readings.numpy()
        self.current: np.ndarray = self._current.numpy()

    def _pinned(self, like: Any) -> Any:
        """Return a copy of a device's array in the host's memory."""
        array = wp.empty(like.shape, dtype=like.dtype, device="cpu", pinned=self._device != "cpu")
        wp.copy(array, like)
        wp.synchronize_device(self._device)
        return array

    def step(self) -> None:
        """Advance by one control step.

        Raises:
            Overflow: there was no room for some contacts or constraints, which were left out.
        """
        self._launch(self._step_graph)
        self._check_room()

    def look(self) -> None:
        """Bring ``current`` up to date with the host's state, which does not change."""
        self._launch(self._look_graph)

    @cached_property
    def _step_graph(self) -> Any:
        results = [(self._host[name], getattr(self._data, name)) for name in _RESULTS]
        return self._capture(mjw.step, len(self.readings), [*results, (self._readings, self._measured)])

    @cached_property
    def _look_graph(self) -> Any:
        return self._capture(mjw.forward, 1, [(self._current, self._measured[0])])

    def _capture(self, work: Callable[[Any, Any], None], times: int, results: list[tuple[Any, Any]]) -> Any:
        """Return a graph that copies the state to the device, works, reads sensors, and copies results to the host."""
        with wp.ScopedDevice(self._device):
            work(self._physics, self._data)  # compiles and loads kernels, which a capture cannot
            wp.synchronize()
            with wp.ScopedCapture() as capture:
                for name in _STATE:
                    wp.copy(getattr(self._data, name), self._host[name])
                for k in range(times):
                    work(self._physics, self._data)
                    wp.copy(self._measured[k], self._data.sensordata)
                for host, device in results:
                    wp.copy(host, device)
        return capture.graph

    def _launch(self, graph: Any) -> None:
        with wp.ScopedDevice(self._device):
            wp.capture_launch(graph)
            wp.synchronize()

    def _check_room(self) -> None:
        found = self.host["overflow"]
        lacking = [name for name, bits in _ROOMS.items() if (found & int(bits)).any()]
        if not lacking:
            return
        animals = int(np.count_nonzero(found & sum(int(bits) for bits in _ROOMS.values())))
        contacts, constraints = self._data.naconmax // self.size, self._data.njmax
        raise Overflow(
            f"MuJoCo Warp had no room for all {' and '.join(lacking)} of {animals} of {self.size} animals: it keeps "
            f"{contacts} contacts (on average) and {constraints} constraints for each. Let fewer geoms collide in the "
            "MJCF, or type sim.backend=cpu, which has no such limit"
        )


class WarpSimulation:
    """:class:`dinorl.sim.interface.Simulation` on MuJoCo Warp; its arrays are NumPy's, float32.

    Args:
        animal: to simulate.
        n: simulations.
        sim: gives the device, the physics steps of a control step and ``deterministic``.

    Raises:
        ConfigError: the GPU is missing.
    """

    def __init__(self, animal: Animal, n: int, sim: SimConfig) -> None:
        self._animal, self._n, self._frame_skip = animal, n, sim.frame_skip
        self._device = physics_device(sim)
        self._model = copy.copy(animal.model)
        self._model.opt.disableflags &= ~mujoco.mjtDisableBit.mjDSBL_MIDPHASE.value  # the one flag that Warp refuses
        with wp.ScopedDevice(self._device):
            self._physics = mjw.put_model(self._model)
        self._physics.opt.warn_overflow = 0  # checked after each step instead
        self._physics.opt.deterministic = mjw.DeterminismType.ALL if sim.deterministic else mjw.DeterminismType.NONE
        self._columns = columns(self._model)
        self._home = self._home_state()
        self._span_up, self._span_down = animal.ctrl_high - animal.home_ctrl, animal.home_ctrl - animal.ctrl_low
        self._all, self._parts = self._worlds(n), dict[int, Worlds]()
        self._host = self._all.host
        self.qpos, self.qvel = self._host["qpos"], self._host["qvel"]
        self.target = self._host["mocap_pos"][:, animal.target_mocap]
        self.substeps = self._all.readings.transpose(1, 0, 2)
        self.sensors = self.substeps[:, -1]
        self.diverged = np.zeros(n, dtype=bool)
        self.reset(np.arange(n))
        self.substeps[:] = 0.0
        self.before = np.repeat(self._home[None], n, axis=0)

    def step(self, action: np.ndarray, only: np.ndarray | None = None) -> None:
        """Advance one control step."""
        ctrl = self._animal.home_ctrl + action * np.where(action > 0.0, self._span_up, self._span_down)
        chosen = slice(None) if only is None else only
        self._host["ctrl"][chosen] = ctrl[chosen]
        self._write(self.before)
        if only is None:
            self._all.step()
        elif only.size:
            part = self._part(only)
            part.step()
            for name in _RESULTS:
                self._host[name][only] = part.host[name][: only.size]
            self.substeps[only] = part.readings.transpose(1, 0, 2)[: only.size]
        self.diverged[:] = False
        for name in ("qpos", "qvel", "qacc"):
            # NaN compares as False
            self.diverged[chosen] |= ~(np.abs(self._host[name][chosen]) < _LARGEST).all(axis=1)

    def reset(self, ids: np.ndarray) -> None:
        """Put the named simulations into the home pose."""
        for name, span in self._columns.items():
            self._host[name][ids] = self._home[span].reshape(self._host[name].shape[1:])

    def repair(self, ids: np.ndarray) -> None:
        """Put diverged simulations into the home pose."""
        self.reset(ids)
        self.refresh(ids)
        self.substeps[ids] = self.sensors[ids][:, None, :]

    def refresh(self, ids: np.ndarray) -> None:
        """Bring the sensors of the named simulations up to date."""
        if ids.size:
            part = self._part(ids)
            part.look()
            self.sensors[ids] = part.current[: ids.size]

    def state(self) -> dict[str, np.ndarray]:
        """Return the full state; ``physics`` as MuJoCo's integration state."""
        physics = np.repeat(self._home[None], self._n, axis=0)
        self._write(physics)
        return {"physics": physics, "substeps": self.substeps.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what :meth:`state` returned."""
        for name, span in self._columns.items():
            self._host[name][:] = state["physics"][:, span].reshape(self._host[name].shape)
        self.substeps[:] = state["substeps"]

    def show(self, index: int, data: mujoco.MjData) -> None:
        """Put one simulation's state into an MjData of ``animal.drawn``."""
        data.qpos[:], data.qvel[:] = self.qpos[index], self.qvel[index]
        data.mocap_pos[self._animal.target_mocap] = self.target[index]

    def _home_state(self) -> np.ndarray:
        """Return the integration state of the home pose."""
        data = mujoco.MjData(self._model)
        mujoco.mj_resetDataKeyframe(self._model, data, self._model.key("home").id)
        state = np.empty(mujoco.mj_stateSize(self._model, _ROW))
        mujoco.mj_getState(self._model, data, state, _ROW)
        return state

    def _write(self, physics: np.ndarray) -> None:
        """Write the state into (n, state) integration states."""
        for name, span in self._columns.items():
            physics[:, span] = self._host[name].reshape(self._n, -1)

    def _worlds(self, size: int) -> Worlds:
        return Worlds(self._model, self._physics, size, self._frame_skip, self._device)

    def _part(self, ids: np.ndarray) -> Worlds:
        """Return worlds of a power of two that begin with the state of the named simulations."""
        size = max(_SMALLEST, 1 << (int(ids.size) - 1).bit_length())
        if size not in self._parts:
            self._parts[size] = self._worlds(size)
        part = self._parts[size]
        for name in _STATE:
            part.host[name][: ids.size] = self._host[name][ids]
        return part
