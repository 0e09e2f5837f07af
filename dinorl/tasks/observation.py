"""What the policy sees: nothing of the world's coordinates, everything in the heading frame or the joints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dinorl.tasks.signals import Array, Signals

# Scales that bring each piece to about -1..1 before any running normalisation.
JOINT_VELOCITY_SCALE = 0.1  # per rad/s
TARGET_FAR = 15.0  # m, beyond which the distance to the target is not told apart
EFFECTOR_FAR = 2.0  # m, likewise for each coordinate of effector to target


@dataclass(frozen=True)
class Piece:
    """A named piece of the observation and its width."""

    name: str
    size: int


def pieces(actuators: int, feet: int, effectors: int) -> list[Piece]:
    """Return the pieces of the observation, in order."""
    return [
        Piece("height", 1),  # m
        Piece("up_b", 3),
        Piece("trunk_velocity_h", 3),  # m/s
        Piece("angular_velocity_h", 3),  # rad/s
        Piece("joint_position", actuators),  # rad from home
        Piece("joint_velocity", actuators),  # 10 rad/s
        Piece("action", actuators),
        Piece("stance", feet),
        Piece("gait_clock", 2),  # cosine and sine
        Piece("target_direction_h", 2),  # unit vector
        Piece("target_distance", 1),  # 15 m
        Piece("target_height_h", 1),  # m
        Piece("effector_h", 3 * effectors),  # m
    ]


def clock(xp: Any, phase: Array) -> Array:
    """Return (n, 2) float32 cosine and sine of the gait clock's (n,) phase, cycles."""
    angle = phase * (2.0 * xp.pi)
    return xp.astype(xp.stack([xp.cos(angle), xp.sin(angle)], axis=1), xp.float32)


def observe(s: Signals) -> Array:
    """Return (n, sum of the pieces) float32."""
    xp = s.xp
    n = s.height.shape[0]
    parts = [
        s.height[:, None],
        s.up_b,
        s.trunk_velocity_h,
        s.angular_velocity_h,
        s.joint_position,
        s.joint_velocity * JOINT_VELOCITY_SCALE,
        s.action,
        s.stance,
        clock(xp, s.phase),
        s.target_h[:, :2] / xp.clip(s.target_distance, 1e-6, 1e9)[:, None],
        xp.clip(s.target_distance, 0.0, TARGET_FAR)[:, None] / TARGET_FAR,
        s.target_h[:, 2:],
        xp.reshape(xp.clip(s.effector_h, -EFFECTOR_FAR, EFFECTOR_FAR), (n, -1)),
    ]
    return xp.astype(xp.concat(parts, axis=1), xp.float32)
