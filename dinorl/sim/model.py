"""An animal's compiled MJCF and where its named sensors lie in ``sensordata``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import mujoco
import numpy as np

from dinorl.config import ConfigError, SimConfig, SpeciesConfig
from dinorl.config.species import mjcf_path


@dataclass(frozen=True)
class Layout:
    """Columns of ``sensordata`` by what they measure: index arrays, so any array library can gather with them.

    Those that are read at every physics step are slices where the columns are evenly spaced, which spares a copy.
    """

    trunk_pos: np.ndarray  # 3, m, world
    trunk_xaxis: np.ndarray  # 3, world
    trunk_zaxis: np.ndarray  # 3, world
    trunk_linvel: np.ndarray  # 3, m/s, world
    trunk_angvel: np.ndarray  # 3, rad/s, world
    com_linvel: np.ndarray  # 3, m/s, world
    tail_angvel: np.ndarray  # 3, rad/s, world
    target_pos: np.ndarray  # 3, m, world
    effector_pos: np.ndarray  # (effectors, 3), m, world
    target_distance: np.ndarray | slice  # (effectors,), m, from effector to target surface
    foot_touch: np.ndarray  # (feet,), N
    foot_pos: np.ndarray  # (feet, 3), m, world
    foot_linvel: np.ndarray  # (feet, 3), m/s, world
    servo_force: np.ndarray | slice  # (actuators,), N m
    servo_velocity: np.ndarray | slice  # (actuators,), rad/s


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
        # what is only drawn costs a tenth of the speed, and moves nothing
        self.model = self._compile(drawn=False)
        self.control_timestep = sim.timestep * sim.frame_skip  # s
        if mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_KEY, "home") < 0:
            raise ConfigError(f"{path}: found no <key name='home'>; it is the pose of action 0")
        key = self.model.key("home")
        self.home_qpos: np.ndarray = key.qpos.copy()
        self.home_ctrl: np.ndarray = key.ctrl.copy()
        self.home_height: float = float(key.qpos[2])
        self.ctrl_low, self.ctrl_high = self.model.actuator_ctrlrange.T.copy()
        self.mass: float = float(self.model.body("trunk").subtreemass[0])
        self.weight: float = self.mass * float(np.linalg.norm(self.model.opt.gravity))  # N
        # Columns of qpos and qvel that the servos drive, in the servos' order.
        joints = self.model.actuator_trnid[:, 0]
        self.joint_qpos: np.ndarray = self.model.jnt_qposadr[joints]
        self.joint_qvel: np.ndarray = self.model.jnt_dofadr[joints]
        self.joint_low, self.joint_high = self.model.jnt_range[joints].T.copy()  # rad
        self.target_mocap: int = int(self.model.body("target").mocapid[0])
        self.target_height: float = float(self.model.body("target").pos[2])

    @property
    def fps(self) -> int:
        """Control steps per second, as ``render_fps`` wants it."""
        return round(1.0 / self.control_timestep)

    @cached_property
    def drawn(self) -> mujoco.MjModel:
        """The same model with everything that is only drawn; the state of the one fits the other."""
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
            **{
                name: self._columns([name])[0]
                for name in (
                    "trunk_pos", "trunk_xaxis", "trunk_zaxis", "trunk_linvel", "trunk_angvel",
                    "com_linvel", "tail_angvel", "target_pos",
                )
            },
            effector_pos=self._columns([f"{e}_pos" for e in effectors]),
            target_distance=_evenly(self._columns([f"{e}_target_distance" for e in effectors])[:, 0]),
            foot_touch=self._columns([f"{f}_touch" for f in feet])[:, 0],
            foot_pos=self._columns([f"{f}_pos" for f in feet]),
            foot_linvel=self._columns([f"{f}_linvel" for f in feet]),
            servo_force=_evenly(self._columns([f"{s}_force" for s in servos])[:, 0]),
            servo_velocity=_evenly(self._columns([f"{s}_velocity" for s in servos])[:, 0]),
        )  # fmt: skip

    def _columns(self, names: Sequence[str]) -> np.ndarray:
        rows = []
        for name in names:
            index = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SENSOR, name)
            if index < 0:
                raise ConfigError(
                    f"{self.path}: found no sensor {name!r}, which every task of {self.species.name} reads; "
                    "add it to <sensor>"
                )
            start = self.model.sensor_adr[index]
            rows.append(np.arange(start, start + self.model.sensor_dim[index]))
        return np.stack(rows)


def _evenly(columns: np.ndarray) -> np.ndarray | slice:
    """Return rising columns that are evenly spaced as a slice, and others as they are."""
    steps = np.unique(np.diff(columns))
    if columns.size == 1:
        return slice(int(columns[0]), int(columns[0]) + 1)
    if steps.size == 1 and steps[0] > 0:
        return slice(int(columns[0]), int(columns[-1]) + 1, int(steps[0]))
    return columns
