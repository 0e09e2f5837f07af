"""What Hydra and OmegaConf complain about, said for a person who trains dinosaurs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import MissingConfigException, OverrideParseException

from dinorl.config.errors import ConfigError, nearest, unknown_key, unknown_option
from dinorl.config.schema import STAGES
from dinorl.config.species import species_config
from dinorl.config.strict import FOREIGN, foreign_env_key, known_keys
from dinorl.config.tree import groups

# Config groups that are chosen on the command line, and keys that only the sweeper reads.
GROUPS = ("species", "stage", "algo", "recipe", "experiment", "sweep")
SWEEP_KEYS = ("sweep.name", "sweep.retries", "sweep.isolate")
SCOPES: dict[str, str] = {str(i): stage for i, stage in enumerate(STAGES, 1)} | {stage: stage for stage in STAGES}
_COULD_NOT_OVERRIDE = re.compile(r"Could not override '([^']+)'")
_COULD_NOT_APPEND = re.compile(r"Could not append to config\. An item is already at '([^']+)'")
_OTHER_VALUE = re.compile(r"The value of '([^']+)' is (.*?) and not")
_COULD_NOT_DELETE = re.compile(r"Could not delete from config\.\s*'?([\w.]+)'?")


def explain(error: BaseException, overrides: Sequence[str]) -> ConfigError:
    """Return an error of composing as a message: found, expected, what to type.

    Args:
        error: what Hydra or OmegaConf raised.
        overrides: what the user typed.
    """
    text = str(error)
    if isinstance(error, yaml.YAMLError):
        return _broken_file(error)
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"{error.override}: not Hydra's grammar: {text.splitlines()[0]}. "
            "Type key=value; quote what has commas, brackets or spaces: 'key=[1,2]'"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.removeprefix("optional ").strip("/").rpartition("/")
        if group.startswith("recipe/") and error.options is None:
            return ConfigError(
                f"conf/{group}/{option}.yaml: there is no recipe for this species and stage; write one (it holds what "
                f"differs for that animal at that stage), or choose another with recipe=…"
            )
        options = [o for o in error.options or [] if not o.startswith("_")] or groups(group)
        if group.startswith("recipe/"):
            return unknown_option(group, option, options)
        return unknown_option(group, option, options)
    match = _OTHER_VALUE.search(text)
    if match:
        key, value = match.groups()
        return ConfigError(f"~{key}: {text.strip().splitlines()[0]} Type ~{key}={value}, or {key}=… to change it")
    match = _COULD_NOT_OVERRIDE.search(text) or _COULD_NOT_DELETE.search(text)
    if match:
        return explain_key(match.group(1), overrides)
    match = _COULD_NOT_APPEND.search(text)
    if match:
        return ConfigError(f"+{match.group(1)}: this key exists already. Type {match.group(1)}=… without the +")
    return ConfigError(text.strip())


def _broken_file(error: yaml.YAMLError) -> ConfigError:
    """Return the error of a file in the conf tree that is no YAML."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{mark.name}, line {mark.line + 1}" if mark else "a file in conf/"
    said = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))) or str(error)
    return ConfigError(f"{where}: expected YAML, but {said}. Mend that file; nothing was run")


def check_options(overrides: Sequence[str]) -> None:
    """Refuse what Hydra has no message for: options of config groups that are no words, keys of nodes that are none.

    Raises:
        ConfigError: an override chooses such an option, or such a key.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException:
        return  # Hydra says so itself
    nodes = {key.partition(".")[0] for key in known_keys()} | {"hydra", "sweep", *SCOPES, *FOREIGN}
    for override in parsed:
        key = override.key_or_group
        head, _, rest = key.partition(".")
        if rest and head not in nodes:  # +nod.key ~nod.key would leave a node without a key
            raise explain_key(key, overrides)
        if key not in GROUPS or override.is_sweep_override():
            continue
        value = override.value()
        if override.is_delete() and value is None:  # ~experiment
            continue
        if not all(isinstance(word, str | QuotedString) for word in (value if isinstance(value, list) else [value])):
            raise unknown_option(key, override.get_value_element_as_str(), groups(key))


def explain_key(key: str, overrides: Sequence[str]) -> ConfigError:
    """Return the error of a key that the composed config does not have."""
    head, _, rest = key.partition(".")
    if head in FOREIGN:
        return ConfigError(f"{key}: dinorl has no JAX backend; recipes keep {head}.* for the record only. Remove it")
    if rest and head.isdigit():
        return ConfigError(
            f"{key}: there is no stage {head}; "
            f"expected {', '.join(f'{i} ({s})' for i, s in enumerate(STAGES, 1))}. "
            f"Type {nearest(head, SCOPES)[0] if nearest(head, SCOPES) else '3'}.{rest}=…"
        )
    if head == "hydra":
        return ConfigError(
            f"{key}: Hydra's own config has no such key as composed here (python -m dinorl --cfg hydra shows it). "
            f"Type +{key}=… to add it"
        )
    if key in GROUPS or head in GROUPS and not rest:
        return unknown_option(head, "", groups(head))
    species = chosen_species(overrides)
    if head == "env":
        foreign = foreign_env_key(key, species)
        if foreign is not None:
            return foreign
    return unknown_key(key, [*known_keys(species_config(species)), *SWEEP_KEYS, *GROUPS])


def chosen_species(overrides: Sequence[str]) -> str:
    """Return the species that overrides choose, or the first of them, or the default."""
    for override in reversed(overrides):
        key, _, value = override.partition("=")
        if key.lstrip("+") == "species":
            return value.split(",")[0]
    return "trex"
