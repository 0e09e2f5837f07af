"""An animal's compiled MJCF and the layout of its ``sensordata``."""

from __future__ import annotations

from functools import cached_property

import mujoco
import numpy as np

from dinorl.config import ConfigError, SimConfig, SpeciesConfig
from dinorl.config.species import mjcf_path
from dinorl.tasks.body import Columns, Layout


class Animal:
    """A species compiled for one physics timestep.

    Raises:
        ConfigError: the MJCF is missing, does not compile, or lacks something that the tasks need.
    """

    def __init__(self, species: SpeciesConfig, sim: SimConfig) -> None:
        path = mjcf_path(species)
        if not path.is_file():
            raise ConfigError(f"species.mjcf: {path} does not exist; found no model for species={species.name}")
        self.species, self.sim, self.path = species, sim, path
        # visual geoms cost 10 % of the speed
        self.model = self._compile(drawn=False)
        self.control_timestep = sim.timestep * sim.frame_skip  # s
        if mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_KEY, "home") < 0:
            raise ConfigError(f"{path}: found no <key name='home'>; it is the pose of action 0")
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
        return self._compile(drawn=True)

    def _compile(self, drawn: bool) -> mujoco.MjModel:
        try:
            spec = mujoco.MjSpec.from_file(str(self.path))
            spec.option.timestep = self.sim.timestep
            spec.compiler.discardvisual = not drawn
            return spec.compile()
        except ValueError as error:
            raise ConfigError(f"species.mjcf: {self.path} does not compile: {error}") from error

    @cached_property
    def layout(self) -> Layout:
        """Columns of ``sensordata`` for everything that the tasks measure."""
        feet, effectors = self.species.feet, self.species.event.effectors
        servos = [self.model.actuator(i).name for i in range(self.model.nu)]
        return Layout(
            trunk_pos=self._sensor("trunk_pos"),
            trunk_xaxis=self._sensor("trunk_xaxis"),
            trunk_zaxis=self._sensor("trunk_zaxis"),
            trunk_linvel=self._sensor("trunk_linvel"),
            trunk_angvel=self._sensor("trunk_angvel"),
            com_linvel=self._sensor("com_linvel"),
            tail_angvel=self._sensor("tail_angvel"),
            target_pos=self._sensor("target_pos"),
            effector_pos=tuple(self._sensor(f"{e}_pos") for e in effectors),
            target_distance=self._scalars([f"{e}_target_distance" for e in effectors]),
            foot_touch=self._scalars([f"{f}_touch" for f in feet]),
            foot_linvel=tuple(self._sensor(f"{f}_linvel") for f in feet),
            servo_force=self._scalars([f"{s}_force" for s in servos]),
            servo_velocity=self._scalars([f"{s}_velocity" for s in servos]),
        )

    def _sensor(self, name: str) -> slice:
        """Return the columns of a sensor."""
        index = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SENSOR, name)
        if index < 0:
            raise ConfigError(
                f"{self.path}: found no sensor {name!r}, which every task of {self.species.name} reads; "
                "add it to <sensor>"
            )
        start = int(self.model.sensor_adr[index])
        return slice(start, start + int(self.model.sensor_dim[index]))

    def _scalars(self, names: list[str]) -> Columns:
        """Return the columns of sensors of one number each."""
        return evenly(np.array([self._sensor(name).start for name in names]))


def evenly(columns: np.ndarray) -> Columns:
    """Return rising, evenly spaced columns as a slice, to avoid a copy; others unchanged."""
    steps = np.unique(np.diff(columns))
    if columns.size == 1:
        return slice(int(columns[0]), int(columns[0]) + 1)
    if steps.size == 1 and steps[0] > 0:
        return slice(int(columns[0]), int(columns[-1]) + 1, int(steps[0]))
    return columns
