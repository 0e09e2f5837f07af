"""Unstable simulations: recorded for replay; too many stop the stage.

``dinorl replay-fault FILE`` replays one, physics step by physics step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from omegaconf import OmegaConf

from dinorl.config import Config, ConfigError, build, to_container
from dinorl.envs.batch import Fault
from dinorl.files.run_folder import RunFolder
from dinorl.files.untrusted import parse_config, read_arrays
from dinorl.sim.model import Animal

MAX_FILES = 20  # a stage
FEW = 10  # never stop a stage


class TooManyFaults(RuntimeError):
    """More unstable simulations than ``sim.max_fault_rate`` allows."""


@dataclass(frozen=True)
class PhysicsStep:
    """The extremes of one physics step."""

    fastest: str  # degree of freedom
    velocity: float  # rad/s or m/s
    most_accelerated: str
    acceleration: float  # rad/s² or m/s²
    broken: bool  # MuJoCo warned


class FaultFolder:
    """The faults of one stage.

    Args:
        cfg: the composed config.
        run_dir: the stage's run folder.
    """

    def __init__(self, cfg: Config, run_dir: Path) -> None:
        self.cfg, self.folder = cfg, RunFolder(run_dir).faults

    def keep(self, faults: Sequence[Fault]) -> None:
        """Write the first few, one file each."""
        if not faults:
            return
        self.folder.mkdir(exist_ok=True)
        config = OmegaConf.to_yaml(OmegaConf.create(to_container(self.cfg)))
        for fault in faults[: MAX_FILES - len(list(self.folder.iterdir()))]:
            path = self.folder / f"seed{fault.seed}-episode{fault.episode}-step{fault.step}.npz"
            np.savez(path, state=fault.state, config=np.asarray(config))

    def check(self, count: int, timesteps: int) -> None:
        """Stop the stage if too many simulations are unstable.

        Args:
            count: unstable simulations so far.
            timesteps: environment steps so far.

        Raises:
            TooManyFaults: the share is above ``sim.max_fault_rate``.
        """
        limit = self.cfg.sim.max_fault_rate
        if count <= FEW or count <= limit * timesteps:
            return
        sim = self.cfg.sim
        raise TooManyFaults(
            f"{count:,} simulations broke down in {timesteps:,} steps, more than sim.max_fault_rate={limit:g} allows. "
            f"Look at one: dinorl replay-fault {self.folder}/<file>. Most often the physics step is too "
            f"long for stiff servos or fast contacts: type sim.timestep={sim.timestep / 2:g} "
            f"sim.frame_skip={sim.frame_skip * 2}, lower kp in {self.cfg.species.mjcf}, or slow the actions down with "
            "env.action_time_constant=0.06"
        )


def replay(path: Path) -> list[PhysicsStep]:
    """Replay the control step in which a simulation became unstable.

    Returns:
        The first state, then each physics step up to the fault.

    Raises:
        ConfigError: the file is not a fault, or the model has changed since.
    """
    try:
        arrays = read_arrays(path)
        state, config = arrays["state"], parse_config(str(arrays["config"]), path)
    except (ConfigError, KeyError) as error:
        raise ConfigError(f"{path}: expected a file of a run's faults/ folder: {error}") from error
    cfg = build(config)
    model = Animal(cfg.species, cfg.sim).model
    kind = mujoco.mjtState.mjSTATE_INTEGRATION.value
    if mujoco.mj_stateSize(model, kind) != state.size:
        raise ConfigError(f"{path}: {cfg.species.mjcf} has changed since: its state had {state.size} numbers")
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, state, kind)
    # MuJoCo would reset a broken state
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
    steps = [_look(model, data)]
    while len(steps) <= cfg.sim.frame_skip and not steps[-1].broken:
        mujoco.mj_step(model, data)
        steps.append(_look(model, data))
    return steps


def _look(model: mujoco.MjModel, data: mujoco.MjData) -> PhysicsStep:
    fast, accelerated = (int(np.argmax(np.abs(np.nan_to_num(x, nan=np.inf)))) for x in (data.qvel, data.qacc))
    broken = any(data.warning[w].number for w in _UNUSABLE)
    return PhysicsStep(
        fastest=_freedom(model, fast),
        velocity=float(data.qvel[fast]),
        most_accelerated=_freedom(model, accelerated),
        acceleration=float(data.qacc[accelerated]),
        broken=broken,
    )


_UNUSABLE = [
    mujoco.mjtWarning.mjWARN_BADQPOS.value,
    mujoco.mjtWarning.mjWARN_BADQVEL.value,
    mujoco.mjtWarning.mjWARN_BADQACC.value,
]


def _freedom(model: mujoco.MjModel, dof: int) -> str:
    joint = model.joint(model.dof_jntid[dof])
    if joint.type[0] != mujoco.mjtJoint.mjJNT_FREE:
        return str(joint.name)
    return f"{joint.name}.{('x', 'y', 'z', 'roll', 'pitch', 'yaw')[dof - joint.dofadr[0]]}"
