"""Checks a node against its dataclass and explains pydantic's first error."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from dinorl.config.errors import ConfigError, UnknownKey, nearest, unknown_key, wrong_value
from dinorl.config.kinds import NODE, bare, choices, example_of, expectation, item_of

T = TypeVar("T")
# Order of complaints; others come last.
_FIRST = {"unexpected_keyword_argument": 0, "invalid_key": 0, "missing": 1}


def checked(kind: type[T], value: object, prefix: str = "") -> T:
    """Return a node as its checked dataclass.

    Args:
        kind: a pydantic dataclass.
        value: plain dictionaries, lists and scalars.
        prefix: of the node's keys, ``ppo.``.

    Raises:
        UnknownKey: a key is unknown.
        ConfigError: a key is missing, or a value is impossible.
    """
    try:
        return cast(T, _adapter(cast(Any, kind)).validate_python(value))
    except ValidationError as error:
        complaints = error.errors(include_url=False)
    worst = min(complaints, key=lambda complaint: _FIRST.get(complaint["type"], 2))
    raise _explained(worst, kind, prefix)


def keys_of(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield every key of a dataclass, nested ones with dots."""
    for name, hint in _hints(kind).items():
        if dataclasses.is_dataclass(bare(hint)):
            yield from keys_of(bare(hint), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def with_fields(name: str, base: type[T], fields: Mapping[str, Any]) -> type[T]:
    """Return a dataclass that adds fields to a class."""
    body = {"__annotations__": dict(fields), "__module__": base.__module__}
    return cast(type[T], dataclass(config=NODE)(type(name, (base,), body)))


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@lru_cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _explained(complaint: Mapping[str, Any], kind: type, prefix: str) -> ConfigError:
    cause = complaint.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):  # a node's own check
        return cause
    path, value = complaint["loc"], complaint["input"]
    key = prefix + ".".join(part for part in path if isinstance(part, str))
    if _FIRST.get(complaint["type"]) == 0:
        return _unknown(prefix + ".".join(map(str, path)), value, keys_of(kind, prefix))
    if complaint["type"] == "missing":
        return ConfigError("missing from the composed config; it needs a value in conf/", key=key)
    wanted = _kind_at(kind, path)
    if dataclasses.is_dataclass(bare(wanted)):
        first = next(keys_of(bare(wanted), f"{key}." if path else prefix))
        return wrong_value(key.rstrip("."), value, f"a node with keys such as {first}")
    options = choices(wanted)
    works = (nearest(str(value), options) or [options[0]])[0] if options else example_of(wanted)
    return wrong_value(key, value, expectation(wanted), works)


def _unknown(key: str, value: object, known: Iterator[str]) -> UnknownKey:
    """Return the error of an unknown key; of a node, its first leaf."""
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    return unknown_key(key, known)


def _kind_at(kind: Any, path: tuple[str | int, ...]) -> Any:
    """Return the kind of the value at a path of keys and list positions."""
    for part in path:
        if dataclasses.is_dataclass(bare(kind)):
            kind = _hints(bare(kind))[str(part)]
        elif typing.get_origin(bare(kind)) in (list, dict):
            kind = item_of(kind)
    return kind
