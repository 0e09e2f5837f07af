"""The observation: heading frame and joints only, no world coordinates.

``PIECES`` is the table that observing, mirroring and the documentation read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dinorl.tasks.body import Array
from dinorl.tasks.signals import Signals

# Scales to about -1..1.
JOINT_VELOCITY_SCALE = 0.1  # per rad/s
TARGET_FAR = 15.0  # m, clips the target's distance
EFFECTOR_FAR = 2.0  # m, clips effector to target

# Kinds of parts.
TRUNK, CLOCK, ACTUATORS, FEET, EFFECTORS = "trunk", "clock", "actuators", "feet", "effectors"

# Signs in the mirror.
SAME = (1.0,)
VECTOR = (1.0, -1.0, 1.0)
AXIAL = (-1.0, 1.0, -1.0)  # of rotations


@dataclass(frozen=True)
class Piece:
    """A named piece of the observation: ``len(signs)`` numbers for each part of a kind."""

    name: str
    part: str  # kind of part
    signs: tuple[float, ...]  # in the mirror
    unit: str
    values: Callable[[Signals], Array]  # (n, parts × len(signs))

    def size(self, counts: dict[str, int]) -> int:
        """Return its width, given the number of parts of each kind."""
        return counts[self.part] * len(self.signs)


def clock(xp: Any, phase: Array) -> Array:
    """Return (n, 2) float32 cosine and sine of the gait clock's (n,) phase, cycles."""
    angle = phase * (2.0 * xp.pi)
    return xp.astype(xp.stack([xp.cos(angle), xp.sin(angle)], axis=1), xp.float32)


def _direction(s: Signals) -> Array:
    return s.target_h[:, :2] / s.xp.clip(s.target_distance, 1e-6, 1e9)[:, None]


def _distance(s: Signals) -> Array:
    return s.xp.clip(s.target_distance, 0.0, TARGET_FAR)[:, None] / TARGET_FAR


def _effectors(s: Signals) -> Array:
    n, effectors, axes = s.effector_h.shape
    return s.xp.reshape(s.xp.clip(s.effector_h, -EFFECTOR_FAR, EFFECTOR_FAR), (n, effectors * axes))


PIECES = (
    Piece("height", TRUNK, SAME, "m", lambda s: s.height[:, None]),
    Piece("up_b", TRUNK, VECTOR, "unit vector", lambda s: s.up_b),
    Piece("trunk_velocity_h", TRUNK, VECTOR, "m/s", lambda s: s.trunk_velocity_h),
    Piece("angular_velocity_h", TRUNK, AXIAL, "rad/s", lambda s: s.angular_velocity_h),
    Piece("joint_position", ACTUATORS, SAME, "rad from home", lambda s: s.joint_position),
    Piece("joint_velocity", ACTUATORS, SAME, "10 rad/s", lambda s: s.joint_velocity * JOINT_VELOCITY_SCALE),
    Piece("action", ACTUATORS, SAME, "-1..1, filtered", lambda s: s.action),
    Piece("stance", FEET, SAME, "share of the control step", lambda s: s.stance),
    Piece("gait_clock", CLOCK, (1.0, 1.0), "cosine and sine", lambda s: clock(s.xp, s.phase)),
    Piece("target_direction_h", TRUNK, VECTOR[:2], "unit vector", _direction),
    Piece("target_distance", TRUNK, SAME, "15 m", _distance),
    Piece("target_height_h", TRUNK, SAME, "m", lambda s: s.target_h[:, 2:]),
    Piece("effector_h", EFFECTORS, VECTOR, "m", _effectors),
)


def part_counts(actuators: int, feet: int, effectors: int) -> dict[str, int]:
    """Return the number of parts of each kind."""
    return {TRUNK: 1, CLOCK: 1, ACTUATORS: actuators, FEET: feet, EFFECTORS: effectors}


def columns(counts: dict[str, int]) -> dict[str, slice]:
    """Return each piece's columns of the observation, by name and in order."""
    spans, begin = {}, 0
    for piece in PIECES:
        spans[piece.name] = slice(begin, begin + piece.size(counts))
        begin = spans[piece.name].stop
    return spans


def observe(s: Signals) -> Array:
    """Return (n, sum of the pieces) float32."""
    return s.xp.astype(s.xp.concat([piece.values(s) for piece in PIECES], axis=1), s.xp.float32)
