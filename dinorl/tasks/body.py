"""Constants of an animal: its sensors, size and gait. No simulation, no config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from dinorl.tasks import lean_numpy

Array = Any
# Columns of the last axis.
Columns = slice | Array


@dataclass(frozen=True)
class Layout:
    """Columns of a simulation's sensor readings, by quantity."""

    trunk_pos: slice  # 3, m, world
    trunk_xaxis: slice  # 3, world
    trunk_zaxis: slice  # 3, world
    trunk_linvel: slice  # 3, m/s, world
    trunk_angvel: slice  # 3, rad/s, world
    com_linvel: slice  # 3, m/s, world
    tail_angvel: slice  # 3, rad/s, world
    target_pos: slice  # 3, m, world
    effector_pos: tuple[slice, ...]  # 3 each, m, world
    target_distance: Columns  # effectors, m, to the target's surface
    foot_touch: Columns  # feet, N
    foot_linvel: tuple[slice, ...]  # 3 each, m/s, world
    servo_force: Columns  # actuators, N m
    servo_velocity: Columns  # actuators, rad/s


@dataclass(frozen=True)
class Body:
    """Constants of an animal. Arrays are of the simulation's library and device."""

    layout: Layout
    home_joints: Array  # (actuators,) rad
    joint_qpos: Columns  # of qpos, actuators
    joint_qvel: Columns  # of qvel, actuators
    foot_pairs: tuple[tuple[int, int], ...]  # (left, right) of each girdle
    gait_phase: Array  # (feet,) lag in the gait clock, cycles
    home_height: float  # m, of the trunk
    weight: float  # N
    load_threshold: float  # N, above: in contact
    dt: float  # s, control step
    event_threshold: float  # m, effector to target's surface


def namespace(array: Array) -> Any:
    """Return the array's namespace."""
    return lean_numpy if isinstance(array, np.ndarray) else array_namespace(array)


def pick(array: Array, columns: Columns) -> Array:
    """Return some columns of the last axis of (n, …); a slice gives a view."""
    return array[..., columns] if isinstance(columns, slice) else namespace(array).take(array, columns, axis=-1)
