"""Errors for users: found, expected, what to type."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_DOTTED = r"[a-z_]\w*(?:\.\w+)+"  # a key in a hint


class ConfigError(ValueError):
    """Wrong input by the user.

    Args:
        problem: what is wrong, if "expected …, found …" is not enough; without a key, the whole message.
        key: the key or config group.
        found: the value, as the user would type it.
        expected: possible values.
        hint: what to type, a sentence.
    """

    def __init__(
        self, problem: str = "", *, key: str = "", found: str = "", expected: str = "", hint: str = ""
    ) -> None:
        self.problem, self.key, self.found, self.expected, self.hint = problem, key, found, expected, hint
        # unpickling restores the fields afterwards
        super().__init__(self._message())

    def _message(self) -> str:
        where = f"{self.key}={self.found}" if self.found else self.key
        expected = f"expected {self.expected}" if self.expected else ""
        if self.problem:
            text = "; ".join(filter(None, (self.problem, expected)))
        else:
            text = f"{expected}, found {self.found}"
        return (f"{where}: {text}" if where else text) + (f". {self.hint}" if self.hint else "")

    def in_stage(self, prefix: str) -> ConfigError:
        """Return the error of a stage-scoped key: ``2.`` is prefixed to its key and to keys in the hint."""
        return type(self)(
            self.problem,
            key=prefix + self.key,
            found=self.found,
            expected=self.expected,
            hint=re.sub(rf"(?<![\w.])(?:{re.escape(self.key)}|{_DOTTED})(?==)", lambda m: prefix + m[0], self.hint),
        )


class UnknownKey(ConfigError):
    """A key does not exist."""


def nearest(word: str, among: Iterable[str]) -> list[str]:
    """Return the known name most similar to a word; empty if none is."""
    known = sorted(set(among))
    last = word.rsplit(".", 1)[-1]
    # same key in another node first
    same = [key for key in known if key.rsplit(".", 1)[-1] == last and key != word]
    return same[:1] or difflib.get_close_matches(word, known, n=1, cutoff=0.6)


def wrong_value(key: str, found: object, expected: str, example: object = None) -> ConfigError:
    """Return the error of a key with an impossible value."""
    hint = "" if example is None else f"Type e.g. {key}={example}"
    return ConfigError(key=key, found=shown(found), expected=expected, hint=hint)


def unknown_key(key: str, known: Iterable[str]) -> UnknownKey:
    """Return the error of a key that does not exist."""
    known = list(known)
    if key in known:
        return UnknownKey("missing from the composed config; it needs a value in conf/", key=key)
    close = nearest(key, known)
    problem = "there is no such key" + (f"; the nearest is {close[0]}" if close else "")
    instead = f"Type {close[0]}=…. " if close else ""
    return UnknownKey(problem, key=key, hint=f"{instead}All keys: python -m dinorl --cfg job")


def unknown_option(group: str, found: str, options: Iterable[str]) -> ConfigError:
    """Return the error of a config group without such an option."""
    options = list(options)
    close = nearest(found, options) or options[:1]
    return ConfigError(
        f"there is no such {group}", key=group, found=found or "''", expected=f"one of {', '.join(options)}",
        hint=f"Type {group}={close[0]}" if close else "",
    )  # fmt: skip


def shown(value: object) -> str:
    """Return a value as it is typed."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value) or "''"
