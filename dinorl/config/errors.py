"""Errors for a person: what was found, what was expected, what to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """Something in what the user gave is wrong; the message says what, and what to type instead."""


def nearest(word: str, among: Iterable[str], count: int = 1) -> list[str]:
    """Return the known names most like a word, the best first, none if nothing is like it."""
    known = sorted(set(among))
    last = word.rsplit(".", 1)[-1]
    # the same key under another node is nearer than a like-looking one
    same = [key for key in known if key.rsplit(".", 1)[-1] == last and key != word]
    return (
        same + [k for k in difflib.get_close_matches(word, known, n=count + len(same), cutoff=0.6) if k not in same]
    )[:count]


def wrong_value(key: str, found: object, expected: str, example: object = None) -> ConfigError:
    """Return the error of a key whose value cannot be."""
    hint = "" if example is None else f"; type e.g. {key}={example}"
    return ConfigError(f"{key}={_shown(found)}: expected {expected}, found {_shown(found)}{hint}")


def unknown_key(key: str, known: Iterable[str]) -> ConfigError:
    """Return the error of a key that does not exist."""
    close = nearest(key, known)
    hint = f"; the nearest is {close[0]}. Type {close[0]}=…" if close else ""
    return ConfigError(f"{key}: there is no such key{hint}. All keys: python -m dinorl --cfg job")


def unknown_option(group: str, found: str, options: Iterable[str]) -> ConfigError:
    """Return the error of a config group that has no such option."""
    options = list(options)
    close = nearest(found, options) or options[:1]
    return ConfigError(
        f"{group}={found}: there is no such {group}; expected one of {', '.join(options)}. Type {group}={close[0]}"
    )


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
