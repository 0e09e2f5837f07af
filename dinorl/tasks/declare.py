"""Declares reward terms and their parameters, once, beside the function.

The config's schema, its ranges, its needs and the documentation are built from these declarations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dinorl.tasks.body import Body

# Arguments that are no parameters.
SIGNALS, BODY = "s", "body"


@dataclass(frozen=True)
class Need:
    """A condition for a key to have an effect."""

    holds: Callable[[Any], bool]  # given the composed ``env`` node
    otherwise: str  # why the key has no effect
    hint: str  # what to type


@dataclass(frozen=True)
class Parameter:
    """A key below ``env``."""

    name: str
    kind: Any = float  # float, int, float | None, list[float]
    unit: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    example: object = None  # a valid value, for messages
    need: Need | None = None


@dataclass(frozen=True)
class Term:
    """A reward term."""

    weight: Parameter  # key of its weight
    function: Callable[..., Any]  # (signals, parameters, body if declared) -> (n,)
    parameters: tuple[Parameter, ...] = ()

    @property
    def name(self) -> str:
        """The name under which it is logged."""
        return logged_name(self.weight.name)

    def under(self, key: str) -> Term:
        """Return the term with another weight key."""
        return replace(self, weight=replace(self.weight, name=key))

    def bind(self, env: Any, body: Body, keys: Mapping[str, str]) -> Callable[[Any], Any]:
        """Return the term as a function of the signals alone.

        Args:
            env: the composed ``env`` node, with the parameters.
            body: constants of the animal.
            keys: role → key of the species' event, for parameters that are roles.
        """
        values = {p.name: getattr(env, keys.get(p.name, p.name)) for p in self.parameters}
        if BODY in inspect.signature(self.function).parameters:
            values[BODY] = body
        return partial(self.function, **values)


class Terms(dict[str, Term]):
    """Reward terms by weight key, in the order in which they are summed."""

    def term(self, weight: str, *parameters: Parameter, need: Need | None = None) -> Callable[..., Any]:
        """Return a decorator that adds a function ``(s, [body,] parameters…)`` as a term.

        Args:
            weight: key of the weight.
            parameters: its parameters, in the order of the function's arguments.
            need: what the weight needs to have an effect.

        Raises:
            TypeError: the function's arguments are not the declared ones, or the key is taken.
        """

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            found = [name for name in inspect.signature(function).parameters if name != BODY]
            expected = [SIGNALS, *(p.name for p in parameters)]
            if found != expected:
                raise TypeError(f"reward term {function.__name__}: expected arguments {expected}, found {found}")
            if weight in self:
                raise TypeError(f"reward term {function.__name__}: {weight} weighs {self[weight].function.__name__}")
            self[weight] = Term(Parameter(weight, need=need), function, parameters)
            return function

        return add


def logged_name(key: str) -> str:
    """Return the name under which the term of a weight key is logged."""
    return key.removesuffix("_weight")
