"""Edits recipe files with ``ruamel.yaml``: comments, order, quotes and layout survive."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.tokens import CommentToken

from dinorl.config import ConfigError

HEADER = "# @package _global_\n"
_LAYOUTS = ((2, 4, 2), (2, 2, 0), (4, 4, 2), (4, 6, 4), (4, 4, 0))  # mapping, sequence, offset
_INDENT = 2
_COLUMN = 33  # of comments, where there is room
_SMALL = 1e-3  # below, numbers have an exponent
_PROMOTED = re.compile(r"; run [0-9a-f]{8}, \d{4}-\d\d-\d\d$")  # end of an earlier promotion's comment


def read(path: Path) -> dict[str, Any]:
    """Return the content of a file."""
    content: dict[str, Any] = _yaml().load(path.read_text(encoding="utf-8")) or {}
    return content


def holds(content: Mapping[str, Any], key: str) -> bool:
    """Whether the content of a file has a value for a dotted key."""
    node: Any = content
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def edited(path: Path, values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Return a file's text with new values.

    A comment behind an old value moves above it, after the old value; one of an earlier promotion is replaced.

    Args:
        path: of the file; it need not exist.
        values: by dotted key.
        comments: behind each value, by dotted key.

    Raises:
        ConfigError: its layout would not survive.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else HEADER
    yaml, data = _loaded(path, before)
    head = "" if data else before  # nothing but comments
    data = CommentedMap() if data is None else data
    for key, value in values.items():
        _put(data, key.split("."), value, comments[key])
    out = io.StringIO()
    yaml.dump(data, out)
    return head + out.getvalue()


def _loaded(path: Path, text: str) -> tuple[YAML, CommentedMap | None]:
    """Return the content of a file, and what writes it back as it is."""
    for layout in _LAYOUTS:
        yaml = _yaml(layout)
        out = io.StringIO()
        try:
            data = yaml.load(text)
        except YAMLError as error:
            raise ConfigError(f"{path}: expected YAML: {error}") from error
        if data is None:
            return yaml, None
        yaml.dump(data, out)
        if out.getvalue() == text:
            return yaml, data
    raise ConfigError(f"{path}: its layout would not survive. Write the values by hand")


def _yaml(layout: tuple[int, int, int] = _LAYOUTS[0]) -> YAML:
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 1 << 16
    yaml.indent(mapping=layout[0], sequence=layout[1], offset=layout[2])
    yaml.representer.add_representer(type(None), lambda out, _: out.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


def _put(node: CommentedMap, path: Sequence[str], value: Any, comment: str) -> None:
    """Set a value with a comment."""
    below = ""
    for part in path[:-1]:
        if part not in node:
            below = _taken_below(node)
            node[part] = CommentedMap()
        node = node[part]
    key = path[-1]
    token = (node.ca.items.get(key) or [None] * 4)[2]
    if key in node:
        behind, _, below = token.value.partition("\n") if token else ("", "", "")
        indent = node.lc.col
        if behind and not _PROMOTED.search(behind.rstrip()):
            old = f"{text_of(node[key])}: {behind.lstrip('#').strip()}"
            node.yaml_set_comment_before_after_key(key, before=old, indent=indent)
    else:
        below = below or _taken_below(node)
        indent = _INDENT * (len(path) - 1) if node.lc.col is None else node.lc.col
    node[key] = _as_node(value)
    column = max(_COLUMN, indent + len(f"{key}: {text_of(value)}") + 2)
    node.ca.items.setdefault(key, [None] * 4)[2] = CommentToken(f"# {comment}\n{below}", CommentMark(column), None)


def _taken_below(node: CommentedMap) -> str:
    """Remove and return the comments and empty lines below a mapping's last value, which ruamel.yaml keeps with it."""
    if not node:
        return ""
    last = list(node)[-1]
    if isinstance(node[last], CommentedMap):
        return _taken_below(node[last])
    slot = node.ca.items.get(last)
    if slot is None or slot[2] is None:
        return ""
    behind, _, below = slot[2].value.partition("\n")
    slot[2].value = f"{behind}\n"
    return str(below)


def _as_node(value: Any) -> Any:
    """Return a value as ruamel.yaml writes it in our style."""
    if isinstance(value, list):
        node = CommentedSeq(_as_node(one) for one in value)
        node.fa.set_flow_style()
        return node
    return _yaml().load(text_of(value)) if isinstance(value, float) else value


def text_of(value: Any) -> str:
    """Return a value as a recipe has it: ``1.0e-4``, ``null``, ``[2.0, 6.0]``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(text_of, value))}]"
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    if value and abs(value) < _SMALL:
        digits, exponent = f"{Decimal(repr(float(value))).normalize():e}".split("e")
        return f"{digits}{'' if '.' in digits else '.0'}e{int(exponent)}"
    return repr(float(value))
