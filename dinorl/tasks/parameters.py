"""Every declared key of ``env``, for the config's schema and the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dinorl.tasks import episode
from dinorl.tasks.declare import Parameter
from dinorl.tasks.events import EVENT_TERMS, ROLES
from dinorl.tasks.rewards import TERMS


def env_parameters() -> list[Parameter]:
    """Return the keys of ``env`` that all animals share: weights, parameters of terms and of the episode.

    Raises:
        TypeError: one key is declared in two ways.
    """
    declared = [p for term in TERMS.values() for p in (term.weight, *term.parameters)]
    declared += [p for term in EVENT_TERMS.values() for p in term.parameters if p.name not in ROLES]
    known: dict[str, Parameter] = {}
    for parameter in (*declared, *episode.PARAMETERS):
        if known.setdefault(parameter.name, parameter) is not parameter:
            raise TypeError(f"env.{parameter.name}: expected one declaration, found two")
    return list(known.values())


def weight_keys(event_keys: Mapping[str, str]) -> list[str]:
    """Return the keys of ``env`` that weigh rewards.

    Args:
        event_keys: see :func:`event_parameters`.
    """
    return [*TERMS, *(event_keys[role] for role in EVENT_TERMS if role in event_keys), "fall_penalty"]


def event_parameters(keys: Mapping[str, str]) -> list[Parameter]:
    """Return the keys of ``env`` of a species' event.

    Args:
        keys: role → key under ``env``, as in ``species.event.keys``.

    Raises:
        KeyError: there is no such role.
    """
    return [replace(ROLES[role], name=key) for role, key in keys.items()]
