"""Explains errors of Hydra and OmegaConf to the user."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import MissingConfigException, OverrideParseException

from dinorl.config import tree
from dinorl.config.algorithms import ALGORITHMS, left_out
from dinorl.config.check import keys_of
from dinorl.config.errors import ConfigError, nearest, unknown_key, unknown_option
from dinorl.config.schema import STAGES, SearchConfig, SweepConfig
from dinorl.config.secrets import hide
from dinorl.config.species import foreign_env_key, species_config
from dinorl.config.strict import FOREIGN, known_keys

SCOPES: dict[str, str] = {str(i): stage for i, stage in enumerate(STAGES, 1)} | {stage: stage for stage in STAGES}
_COULD_NOT_OVERRIDE = re.compile(r"Could not override '([^']+)'")
_COULD_NOT_APPEND = re.compile(r"Could not append to config\. An item is already at '([^']+)'")
_OTHER_VALUE = re.compile(r"The value of '([^']+)' is (.*?) and not")
_COULD_NOT_DELETE = re.compile(r"Could not delete from config\.\s*'?([\w.]+)'?")


def explain(error: BaseException, overrides: Sequence[str]) -> ConfigError:
    """Return a composition error as found, expected, what to type.

    Args:
        error: raised by Hydra or OmegaConf.
        overrides: as typed.
    """
    text = str(error).strip()
    if isinstance(error, yaml.YAMLError):
        return _broken_file(error)
    if isinstance(error, OverrideParseException):
        return _not_grammar(hide(error.override or ""), hide(text.splitlines()[0]))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_file(error)
    if match := _OTHER_VALUE.search(text):
        key, value = match.groups()
        hint = f"Type ~{key}={value}, or {key}=… to change it"
        return ConfigError(text.splitlines()[0].rstrip("."), key=f"~{key}", hint=hint)
    if match := _COULD_NOT_OVERRIDE.search(text) or _COULD_NOT_DELETE.search(text):
        return explain_key(match[1], overrides)
    if match := _COULD_NOT_APPEND.search(text):
        return ConfigError("this key exists already", key=f"+{match[1]}", hint=f"Type {match[1]}=… without the +")
    return ConfigError(text)


def _not_grammar(override: str, text: str) -> ConfigError:
    """Return the error of an override that Hydra cannot parse."""
    key, equals, value = override.partition("=")
    hint = "Type key=value; quote commas, brackets and spaces: 'key=[1,2]'"
    if key and equals and not set("'\"[]{}(),") & set(value):
        hint = f"Type '{key}=\"{value}\"', with both quotes, if that is one value"
    return ConfigError(f"not Hydra's grammar: {text}", key=override, hint=hint)


def _missing_file(error: MissingConfigException) -> ConfigError:
    """Return the error of an option without a file in the conf tree."""
    group, _, option = (error.missing_cfg_file or "").removeprefix("optional ").strip("/").rpartition("/")
    if group.startswith("recipe/") and error.options is None:
        return ConfigError(
            "there is no recipe for this species and stage",
            key=f"conf/{group}/{option}.yaml",
            hint="Write it (only what differs for that animal at that stage), or choose another with recipe=…",
        )
    return unknown_option(group, option, [o for o in error.options or [] if o[0] != "_"] or tree.options(group))


def _broken_file(error: yaml.YAMLError) -> ConfigError:
    """Return the error of a file in the conf tree that is no YAML."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{mark.name}, line {mark.line + 1}" if mark else "a file in conf/"
    found = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))) or str(error)
    return ConfigError(f"expected YAML, but {found}", key=where, hint="Mend that file; nothing was run")


def check_options(overrides: Sequence[str]) -> None:
    """Check what Hydra does not explain: options that are not words, and keys of unknown nodes.

    Raises:
        ConfigError: an override has such an option or key.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException:
        return  # Hydra raises
    command = ("hydra", "sweep", "search")
    nodes = {key.partition(".")[0] for key in known_keys()} | {*command, *ALGORITHMS, *SCOPES, *FOREIGN}
    for override in parsed:
        key = override.key_or_group
        head, _, rest = key.partition(".")
        if rest and head not in nodes:  # +nod.key ~nod.key leaves an empty node
            raise explain_key(key, overrides)
        if key not in tree.defaults() or override.is_sweep_override():
            continue
        value = override.value()
        if override.is_delete() and value is None:  # ~experiment
            continue
        if not all(isinstance(word, str | QuotedString) for word in (value if isinstance(value, list) else [value])):
            raise unknown_option(key, override.get_value_element_as_str(), tree.options(key))


def explain_key(key: str, overrides: Sequence[str]) -> ConfigError:
    """Return the error of a key that the composed config does not have."""
    head, _, rest = key.partition(".")
    if head in FOREIGN:
        return ConfigError(
            f"dinorl has no JAX backend; recipes keep {head}.* for the record only", key=key, hint="Remove it"
        )
    if rest and head.isdigit():
        close = (nearest(head, SCOPES) or ["3"])[0]
        expected = ", ".join(f"{i} ({s})" for i, s in enumerate(STAGES, 1))
        return ConfigError(f"there is no stage {head}", key=key, expected=expected, hint=f"Type {close}.{rest}=…")
    if head == "hydra":
        return ConfigError(
            "Hydra's own config has no such key as composed here (python -m dinorl --cfg hydra shows it)",
            key=key,
            hint=f"Type +{key}=… to add it",
        )
    if key in tree.defaults() or head in tree.defaults() and not rest:
        return unknown_option(head, "", tree.options(head))
    algorithm, species = chosen("algo", overrides), chosen("species", overrides)
    if head in left_out(algorithm):
        return unused_algorithm(key, head)
    keys = known_keys(species_config(species), algorithm)
    command = (*keys_of(SweepConfig, "sweep."), *keys_of(SearchConfig, "search."))
    return foreign_env_key(key, species) or unknown_key(key, [*keys, *command, *tree.defaults()])


def unused_algorithm(key: str, name: str) -> ConfigError:
    """Return the error of an option of an unused algorithm."""
    return ConfigError(
        f"means nothing here, no job of this command uses {name}", key=key, hint=f"Type algo={name}, or remove it"
    )


def chosen(group: str, overrides: Sequence[str]) -> str:
    """Return the (first) option that overrides choose, or the default."""
    for override in reversed(overrides):
        key, _, value = override.partition("=")
        if key.lstrip("+") == group:
            return value.split(",")[0]
    return tree.defaults()[group] or ""
