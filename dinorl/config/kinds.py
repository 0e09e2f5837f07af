"""Kinds of values: types with ranges, and their wording in messages."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

_A_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

# unknown keys are errors
NODE = ConfigDict(extra="forbid", defer_build=True)


@dataclass(frozen=True)
class Expected:
    """Possible values of a kind with a custom check, for messages."""

    text: str


def example(value: object) -> Any:
    """Annotate a kind with a valid value, for messages."""
    return Field(examples=[value])


def _number(value: Any) -> Any:
    """Return a string that is a number, such as ``${oc.env:SEED}``, as one."""
    if isinstance(value, str) and _A_NUMBER.fullmatch(value.strip()):
        return float(value) if set(".eE") & set(value) else int(value)
    return value


def _whole(value: Any) -> Any:
    value = _number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _flag(value: Any) -> Any:
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def _ordered(values: list[float]) -> list[float]:
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError("not in order")
    return values


Flag = Annotated[bool, BeforeValidator(_flag), Field(strict=True)]
Word = Annotated[str, Field(strict=True)]
Number = Annotated[float, BeforeValidator(_number), Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
PositiveShare = Annotated[Number, Field(gt=0, le=1)]
Whole = Annotated[int, BeforeValidator(_whole), Field(strict=True)]
Steps = Annotated[Whole, Field(ge=0)]
OneOrMore = Annotated[Whole, Field(ge=1)]
# protects memory from untrusted configs
Count = Annotated[Whole, Field(ge=1, le=1 << 16)]
Many = Annotated[Whole, Field(ge=1, le=1 << 20)]
Interval = Annotated[
    list[Number], AfterValidator(_ordered), Expected("two numbers, the smaller first"), example("[2.0,6.0]")
]

_NOUNS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", dict: "a mapping"}
_LISTS = {float: "a list of numbers", int: "a list of whole numbers", str: "a list of words"}


def expectation(kind: Any) -> str:
    """Return the possible values of a kind: ``a number in (0, 1]``."""
    plain, notes = _parts(kind)
    for note in notes:
        if isinstance(note, Expected):
            return note.text
    if options := choices(kind):
        return f"one of {', '.join(options)}"
    if get_origin(plain) is list:
        return _LISTS[bare(item_of(plain))]
    noun = _NOUNS.get(get_origin(plain) or plain, "a value")
    return f"{noun} {limits}" if (limits := _limits(notes)) else noun


def choices(kind: Any) -> tuple[str, ...]:
    """Return the words of a choice; empty for other kinds."""
    return get_args(bare(kind)) if get_origin(bare(kind)) is Literal else ()


def bare(kind: Any) -> Any:
    """Return the type without its annotations and ``| None``."""
    return _parts(kind)[0]


def item_of(kind: Any) -> Any:
    """Return the kind of a list's items or a mapping's values."""
    return get_args(bare(kind))[-1]


def example_of(kind: Any) -> object:
    """Return a valid value, or None."""
    plain, notes = _parts(kind)
    found = [note.examples[0] for note in notes if isinstance(note, FieldInfo) and note.examples]
    if not found and get_origin(plain) is list:
        return "[a,b]" if bare(item_of(plain)) is str else "[1,2]"
    return found[-1] if found else None


def _parts(kind: Any) -> tuple[Any, list[Any]]:
    """Return the bare type and its annotations, through ``| None``."""
    notes: list[Any] = []
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            notes += more
        elif get_origin(kind) in (types.UnionType, Union):
            kind = next(option for option in get_args(kind) if option is not type(None))
        else:
            return kind, notes


def _limits(notes: list[Any]) -> str:
    """Return a range: ``in (0, 1]``, ``0 or more``."""
    bound = dict(_bounds(notes))
    low, high = bound.get("gt", bound.get("ge")), bound.get("le")
    if low is None:
        return "" if high is None else f"{high:g} or less"
    if high is None:
        return f"more than {low:g}" if "gt" in bound else f"{low:g} or more"
    return f"in {'(' if 'gt' in bound else '['}{low:.7g}, {high:.7g}]"


def _bounds(notes: list[Any]) -> Iterator[tuple[str, float]]:
    for note in notes:
        for limit in note.metadata if isinstance(note, FieldInfo) else ():
            for name in ("gt", "ge", "le"):
                if hasattr(limit, name):
                    yield name, getattr(limit, name)
