"""How a reward term and its parameters are declared: once, beside the function.

The config's schema, its ranges, "means nothing without" and the documentation are built from these declarations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Need:
    """What must hold for a key to have an effect."""

    holds: Callable[[Any], bool]  # given the composed ``env`` node
    otherwise: str  # why the key does nothing if it does not hold
    hint: str  # what to type then


@dataclass(frozen=True)
class Parameter:
    """A key below ``env``."""

    name: str
    kind: Any = float  # float, int, float | None, list[float]
    unit: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    example: object = None  # a value that works, for messages
    need: Need | None = None


@dataclass(frozen=True)
class Term:
    """A reward term."""

    weight: Parameter  # the key that weighs it
    function: Callable[..., Any]  # (signals, parameters by name) -> (n,)
    parameters: tuple[Parameter, ...] = ()

    @property
    def name(self) -> str:
        """The name under which it is logged."""
        return self.weight.name.removesuffix("_weight")
