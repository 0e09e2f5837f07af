"""The files of a recipe: which of them a value belongs to, and how it is written there.

Comments, order, quotes and layout of a file survive (``ruamel.yaml``, round trip).
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.tokens import CommentToken

from dinorl.config import ALGORITHMS, ConfigError, compose, conf_dir, flatten
from dinorl.config.compose import merged_files
from dinorl.config.overrides import hydra_value

NODES = ("env", "curriculum", *ALGORITHMS)  # of a recipe
DEFAULT = "default"
_GLOBAL = "_global_"
_LAYOUTS = ((2, 4, 2), (2, 2, 0), (4, 4, 2), (4, 6, 4), (4, 4, 0))  # mapping, sequence, offset
_COLUMN = 33  # of comments, where there is room
_SMALL = 1e-3  # below, numbers have an exponent
_PROMOTED = re.compile(r"; run [0-9a-f]{8}, \d{4}-\d\d-\d\d$")  # end of an earlier promotion's comment


@dataclass(frozen=True)
class Recipe:
    """One stage of one animal in a recipe.

    Attributes:
        name: of the recipe, such as ``default``.
        species, stage, algo: as in the config.
        searchpath: folders of configs beside dinorl's own.
    """

    name: str
    species: str
    stage: str
    algo: str
    searchpath: tuple[Path, ...] = ()

    @property
    def overrides(self) -> list[str]:
        """What composes it."""
        path = [f"hydra.searchpath=[{','.join(hydra_value(str(folder)) for folder in self.searchpath)}]"]
        chosen = {"recipe": self.name, "species": self.species, "stage": self.stage, "algo": self.algo}
        return [*(path if self.searchpath else []), *(f"{group}={option}" for group, option in chosen.items())]

    def values(self) -> dict[str, Any]:
        """Compose it; return its values, ``{"ppo.gamma": …}``.

        Raises:
            ConfigError: it cannot be composed, or is invalid.
        """
        return flatten(compose(self.overrides))

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files that its composition merges at the top, in order, by their paths in the tree."""
        found = {}
        for name, package in merged_files(self.overrides):
            path = self._find(f"{name}.yaml")
            if package in ("", _GLOBAL) and path is not None:
                found[name] = path
        return found

    def file_of(self, key: str) -> Path:
        """Return the file of the animal that a value of a key belongs to; it need not exist.

        It is the most specific one that holds the key. If none does, it is the stage's, or the algorithm's if the key
        is an option of it, or if a file of the algorithm for all animals would win over the stage's.

        Raises:
            ConfigError: a file that is read later holds the key.
        """
        names = list(self.files)
        holding = [name for name in names if holds(self.files[name], key)]
        last = holding[-1] if holding else ""
        if last in (self._stage, self._own_algorithm):
            return self.files[last]
        later = bool(last) and names.index(last) > names.index(self._stage)
        if (later or key.partition(".")[0] in ALGORITHMS) and self._reads_algorithm:
            specific = self.files.get(self._own_algorithm)
            if not later or specific is None or names.index(last) < names.index(self._own_algorithm):
                return specific or self.files[self._stage].with_suffix("") / f"{self.algo}.yaml"
        if later:
            raise ConfigError(
                f"{self.files[last]}, which is read after the recipe of {self.species}, holds it too, and would win",
                key=key,
                hint="Remove it there",
            )
        return self.files[self._stage]

    def others(self, key: str, path: Path) -> list[str]:
        """Return the other algorithms that a value in a file reaches too."""
        reached = []
        for algo in (algo for algo in ALGORITHMS if algo != self.algo and key.partition(".")[0] not in ALGORITHMS):
            with contextlib.suppress(ConfigError):  # the animal has no recipe for it
                other = replace(self, algo=algo)
                if path in other.files.values() and other.file_of(key) == path:
                    reached.append(algo)
        return reached

    @property
    def _stage(self) -> str:
        return f"recipe/{self.name}/{self.species}/{self.stage}"

    @property
    def _own_algorithm(self) -> str:
        return f"{self._stage}/{self.algo}"

    @property
    def _reads_algorithm(self) -> bool:
        """Whether the stage's file has the algorithm's own in its defaults list."""
        if self._own_algorithm in self.files:
            return True
        data = _yaml().load(self.files[self._stage].read_text(encoding="utf-8")) or {}
        listed = [one for one in data.get("defaults", ()) if isinstance(one, Mapping)]
        groups = {str(group).removeprefix("optional ").partition("@")[0] for one in listed for group in one}
        return bool(groups & {self.stage, f"/{self._stage}"})

    def _find(self, name: str) -> Path | None:
        paths = (folder / name for folder in (conf_dir(), *self.searchpath))
        return next((path for path in paths if path.is_file()), None)


def holds(path: Path, key: str) -> bool:
    """Whether a file has a value for a key."""
    node = _yaml().load(path.read_text(encoding="utf-8"))
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
    before = path.read_text(encoding="utf-8") if path.exists() else f"# @package {_GLOBAL}\n"
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
    depth = len(path) - 1
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
            old = f"{_text(node[key])}: {behind.lstrip('#').strip()}"
            node.yaml_set_comment_before_after_key(key, before=old, indent=indent)
    else:
        below = below or _taken_below(node)
        indent = _yaml().map_indent * depth if node.lc.col is None else node.lc.col
    node[key] = _as_node(value)
    column = max(_COLUMN, indent + len(f"{key}: {_text(value)}") + 2)
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
    return _yaml().load(_text(value)) if isinstance(value, float) else value


def _text(value: Any) -> str:
    """Return a value as a recipe has it: ``1.0e-4``, ``null``, ``[2.0, 6.0]``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    if value and abs(value) < _SMALL:
        digits, exponent = f"{Decimal(repr(float(value))).normalize():e}".split("e")
        return f"{digits}{'' if '.' in digits else '.0'}e{int(exponent)}"
    return repr(float(value))


def lines(text: str) -> Iterator[str]:
    yield from text.splitlines(keepends=True)
