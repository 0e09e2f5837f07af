"""An animal's compiled MJCF and the layout of its ``sensordata``."""

from __future__ import annotations

from functools import cached_property

import mujoco
import numpy as np

from dinorl.config import SimConfig, SpeciesConfig
from dinorl.config.species import compile_mjcf, mjcf_path, model_hash
from dinorl.sim.anatomy import check_anatomy
from dinorl.sim.findings import refusal
from dinorl.sim.sensors import evenly, layout_of
from dinorl.tasks.body import Layout

__all__ = ["CAMERA", "Animal", "evenly"]

CAMERA = "track"  # of films


class Animal:
    """A species compiled for one physics timestep.

    Raises:
        ConfigError: the MJCF is missing, does not compile, or lacks something that the tasks need; all of it at once.
    """

    def __init__(self, species: SpeciesConfig, sim: SimConfig) -> None:
        self.species, self.sim, self.path = species, sim, mjcf_path(species)
        self.model: mujoco.MjModel = compile_mjcf(self.path, sim.timestep)
        if faults := [finding for finding in check_anatomy(self.model, species) if finding.fault]:
            raise refusal(self.path, faults)
        self.control_timestep = sim.timestep * sim.frame_skip  # s
        key = self.model.key("home")
        self.home_qpos: np.ndarray = key.qpos.copy()
        self.home_ctrl: np.ndarray = key.ctrl.copy()
        self.home_height: float = float(key.qpos[2])
        self.ctrl_low, self.ctrl_high = self.model.actuator_ctrlrange.T.copy()
        self.gravity: float = float(np.linalg.norm(self.model.opt.gravity))  # m/s²
        self.mass: float = float(self.model.body("trunk").subtreemass[0])  # kg
        self.weight: float = self.mass * self.gravity  # N
        # in the servos' order
        joints = self.model.actuator_trnid[:, 0]
        self.joint_qpos: np.ndarray = self.model.jnt_qposadr[joints]
        self.joint_qvel: np.ndarray = self.model.jnt_dofadr[joints]
        self.joint_low, self.joint_high = self.model.jnt_range[joints].T.copy()  # rad
        self.target_mocap: int = int(self.model.body("target").mocapid[0])
        self.target_height: float = float(self.model.body("target").pos[2])

    @property
    def fps(self) -> int:
        """Control steps per second, for ``render_fps``."""
        return round(1.0 / self.control_timestep)

    @cached_property
    def drawn(self) -> mujoco.MjModel:
        """The same model with its visual geoms; states fit both."""
        return compile_mjcf(self.path, self.sim.timestep, drawn=True)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the model; see :func:`dinorl.config.species.model_hash`."""
        return model_hash(self.model)

    @cached_property
    def layout(self) -> Layout:
        """Columns of ``sensordata`` for everything that the tasks measure."""
        servos = [self.model.actuator(i).name for i in range(self.model.nu)]
        return layout_of(self.model, self.species, servos)
