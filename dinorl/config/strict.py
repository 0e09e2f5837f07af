"""The strict rebuild of a composed config: every key known, every type right, every value possible.

Hydra's ``+key=value`` adds stray keys to any node, dataclass or not; so what it composed is rebuilt here, field by
field, and everything that does not fit is refused.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinorl.config.errors import ConfigError, nearest, unknown_key, wrong_value
from dinorl.config.schema import STAGES, Config, EnvConfig, SpeciesConfig, env_config_type
from dinorl.config.together import check_together
from dinorl.config.tree import conf_dir

# Kept verbatim in recipes that were converted from TOML: what another program's JAX backend was told.
FOREIGN = ("jax",)


@dataclass(frozen=True)
class Range:
    """Values that make sense for a number."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value lies in it."""
        return (value > self.low if self.open_low else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"more than {self.low:g}" if self.open_low else f"{self.low:g} or more"
        return f"in {'(' if self.open_low else '['}{self.low:.7g}, {self.high:.7g}]"


_POSITIVE, _NON_NEGATIVE, _ONE_OR_MORE = Range(0, open_low=True), Range(0), Range(1)
# Whoever types more has typed a 0 too many, and a stranger's config may not ask for all the memory there is.
_COUNT, _MANY = Range(1, 1 << 16), Range(1, 1 << 20)
_SHARE, _SHARE_ABOVE_0 = Range(0, 1), Range(0, 1, open_low=True)

# Each key's range, an example in it for the message.
RANGES: dict[str, tuple[Range, object]] = {
    **{f"{a}.learning_rate": (_SHARE_ABOVE_0, "3e-4") for a in ("ppo", "sac")},
    **{f"{a}.learning_rate_end": (_SHARE, "1e-4") for a in ("ppo", "sac")},
    **{f"{a}.gamma": (_SHARE_ABOVE_0, 0.99) for a in ("ppo", "sac")},
    **{f"{a}.batch_size": (_MANY, 256) for a in ("ppo", "sac")},
    **{f"{a}.ent_coef_end": (_NON_NEGATIVE, 0.0) for a in ("ppo", "sac")},
    "ppo.n_steps": (_COUNT, 24),
    "ppo.n_epochs": (_COUNT, 5),
    "ppo.gae_lambda": (_SHARE, 0.95),
    "ppo.clip_range": (_POSITIVE, 0.2),
    "ppo.clip_range_end": (_POSITIVE, 0.1),
    "ppo.ent_coef": (_NON_NEGATIVE, 0.0),
    "ppo.vf_coef": (_NON_NEGATIVE, 0.5),
    "ppo.max_grad_norm": (_POSITIVE, 1.0),
    "ppo.target_kl": (_POSITIVE, 0.02),
    "sac.tau": (_SHARE_ABOVE_0, 0.005),
    "sac.actor_tau": (_SHARE_ABOVE_0, 0.001),
    "sac.buffer_size": (Range(1, 1 << 30), 300000),
    "sac.learning_starts": (_NON_NEGATIVE, 5000),
    "sac.train_freq": (_COUNT, 1),
    "sac.gradient_steps": (_COUNT, 8),
    "sac.n_steps": (_COUNT, 3),
    "curriculum.timesteps": (_ONE_OR_MORE, 1000000),
    "curriculum.min_gait_alternation": (_SHARE, 0.9),
    "curriculum.max_fall_rate": (_SHARE, 0.02),
    "curriculum.min_success_rate": (_SHARE, 0.9),
    "curriculum.min_success_lcb": (_SHARE, 0.9),
    "curriculum.required_consecutive": (_ONE_OR_MORE, 3),
    "curriculum.warmup_timesteps": (_NON_NEGATIVE, 100000),
    "curriculum.warmup_clip_range": (_POSITIVE, 0.02),
    "curriculum.warmup_ent_coef": (_NON_NEGATIVE, 0.02),
    "curriculum.warmup_actor_scale": (_SHARE, 0.0),
    "curriculum.push_scale": (_NON_NEGATIVE, 1.5),
    "curriculum.bearing_scale": (_NON_NEGATIVE, 1.3),
    "curriculum.bearing_scale_start": (_NON_NEGATIVE, 0.5),
    "curriculum.bearing_ramp_timesteps": (_NON_NEGATIVE, 500000),
    "curriculum.episode_scale": (_SHARE_ABOVE_0, 0.5),
    "curriculum.episode_scale_start": (_SHARE_ABOVE_0, 0.2),
    "curriculum.episode_ramp_timesteps": (_NON_NEGATIVE, 500000),
    "curriculum.ramp_timesteps": (_NON_NEGATIVE, 500000),
    "sim.n_envs": (_COUNT, 64),
    "sim.threads": (Range(0, 1 << 10), 0),
    "sim.timestep": (Range(0, 0.02, open_low=True), 0.004),
    "sim.frame_skip": (Range(1, 1000), 5),
    "sim.max_fault_rate": (_SHARE, 0.0001),
    "eval.episodes": (_COUNT, 32),
    "eval.seed": (_NON_NEGATIVE, 1000000),
    "eval.every": (_ONE_OR_MORE, 250000),
    "eval.start": (_NON_NEGATIVE, 0),
    "eval.keep": (_COUNT, 2),
    "eval.video_seconds": (Range(0, 3600), 6),
    "tracking.log_every": (_POSITIVE, 1),
    "env.max_tilt_angle": (Range(0, math.pi, open_low=True), 0.9),
    "env.natural_pitch": (Range(-math.pi / 2, math.pi / 2), 0.0),
    "env.nosedive_termination_threshold": (Range(0, math.pi, open_low=True), 0.35),
    "env.forward_vel_max": (_POSITIVE, 4.0),
    "env.fall_penalty": (Range(-math.inf, 0), -50.0),
    "env.foot_contact_gate": (_SHARE, 1.0),
    "env.speed_penalty_threshold": (_NON_NEGATIVE, 0.1),
    "env.idle_velocity_threshold": (_POSITIVE, 0.1),
    "env.gait_clock_frequency": (_NON_NEGATIVE, 1.5),
    "env.gait_clock_duty": (_SHARE_ABOVE_0, 0.5),
    "env.gait_full_speed": (_POSITIVE, 1.0),
    "env.action_time_constant": (_NON_NEGATIVE, 0.06),
    "env.reset_noise_scale": (_NON_NEGATIVE, 0.05),
    "env.max_episode_steps": (_MANY, 1000),
    "env.event_hold": (Range(0, 10), 0.5),
    "env.push_interval": (_NON_NEGATIVE, 2.0),
    "env.push_speed": (_NON_NEGATIVE, 0.5),
    "seed": (Range(0, 2**20), 0),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "ppo.lr_schedule": ("linear", "cosine"),
    "sac.lr_schedule": ("linear", "cosine"),
    "ppo.policy_kwargs.activation_fn": ("elu", "relu", "tanh"),
    "sac.policy_kwargs.activation_fn": ("elu", "relu", "tanh"),
    "curriculum.on_budget": ("advance", "stop"),
    "stage.name": STAGES,
    "algo.name": ("ppo", "sac"),
}


def build(cfg: DictConfig) -> Config:
    """Rebuild a composed config strictly.

    Raises:
        ConfigError: a key is unknown, a type is wrong, a value is out of range, or values do not go together.
    """
    try:
        content = typing.cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}") from error
    content = {key: value for key, value in content.items() if key not in (*FOREIGN, "hydra")}
    built = _convert(content, Config, "")
    assert isinstance(built, Config)
    check_together(built)
    return built


def to_container(cfg: Config) -> dict[str, Any]:
    """Return a config as plain dictionaries and lists; :func:`build` takes them back."""
    return dataclasses.asdict(cfg)


def flatten(cfg: Config) -> dict[str, Any]:
    """Return a config as ``{"ppo.learning_rate": …}``, lists as they are."""

    def walk(node: dict[str, Any], prefix: str) -> typing.Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(walk(to_container(cfg), ""))


def known_keys(species: SpeciesConfig | None = None) -> list[str]:
    """Return every key that can be set, those of a species' event included."""

    def walk(kind: type, prefix: str) -> typing.Iterator[str]:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            if hint is EnvConfig and species is not None:
                hint = env_config_type(species)
            if dataclasses.is_dataclass(hint):
                yield from walk(typing.cast(type, hint), f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}"

    return list(walk(Config, ""))


def _convert(value: Any, kind: Any, key: str) -> Any:
    """Return a value as its type wants it, or say why it cannot be."""
    if dataclasses.is_dataclass(kind):
        return _convert_node(value, typing.cast(type, kind), key)
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(value, next(a for a in typing.get_args(kind) if a is not type(None)), key)
    if origin is list:
        item = typing.get_args(kind)[0]
        if not isinstance(value, list):
            raise wrong_value(key, value, f"a list of {_NAMES[item]}s", "[1,2]" if item is not str else "[a,b]")
        converted = [_convert(v, item, key) for v in value]
        if key.endswith("_range") and (len(converted) != 2 or converted[0] > converted[1]):
            raise wrong_value(key, value, "two numbers, the smaller first", "[2.0,6.0]")
        return converted
    if origin is dict:
        if not isinstance(value, dict):
            raise wrong_value(key, value, "a mapping")
        return value
    return _convert_scalar(value, kind, key)


_NAMES = {float: "number", int: "whole number", bool: "true or false", str: "word"}


def _convert_scalar(value: Any, kind: Any, key: str) -> Any:
    limits, example = RANGES.get(key, (None, None))
    expected = _NAMES.get(kind, "value") if kind is bool else f"a {_NAMES.get(kind, 'value')}"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = kind is Any or (isinstance(value, kind) and not (kind is not bool and isinstance(value, bool)))
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise wrong_value(key, value, f"{expected}{f' {limits}' if limits else ''}", example)
    if limits is not None and not limits.holds(value):
        raise wrong_value(key, value, f"{expected} {limits}", example)
    if key in CHOICES and value not in CHOICES[key]:
        close = nearest(str(value), CHOICES[key]) or [CHOICES[key][0]]
        raise wrong_value(key, value, f"one of {', '.join(CHOICES[key])}", close[0])
    if key in _SPECIAL:
        _SPECIAL[key](key, value)
    return value


def _convert_node(value: Any, kind: type, key: str) -> Any:
    prefix = f"{key}." if key else ""
    if not isinstance(value, dict):
        raise wrong_value(key, value, f"a node with keys such as {prefix}{dataclasses.fields(kind)[0].name}")
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]
    for name in value:
        if name not in fields and not (kind is Config and name == "env"):
            raise unknown_key(_whole(f"{prefix}{name}", value[name]), known_keys())
    missing = [name for name in fields if name not in value]
    if missing:
        raise ConfigError(f"{prefix}{missing[0]}: missing from the composed config; it needs a value in conf/")
    converted: dict[str, Any] = {}
    for name in fields:
        if kind is Config and name == "env":
            converted[name] = _convert_env(value[name], converted["species"])
        else:
            converted[name] = _convert(value[name], hints[name], f"{prefix}{name}")
    return kind(**converted)


def _whole(key: str, value: Any) -> str:
    """Return the key as it was typed: of a node that should not be, the first of its leaves."""
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    return key


def _convert_env(value: dict[str, Any], species: SpeciesConfig) -> EnvConfig:
    kind = env_config_type(species)
    if not isinstance(value, dict):
        raise wrong_value("env", value, "a node with keys such as env.alive_bonus")
    fields = {field.name for field in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise foreign_env_key(f"env.{name}", species.name) or unknown_key(f"env.{name}", known_keys(species))
    converted: EnvConfig = _convert_node(value, kind, "env")
    return converted


def foreign_env_key(key: str, species: str) -> ConfigError | None:
    """Return the error of an env key that belongs to another animal's event, or None if it belongs to none."""
    events = {path.stem: OmegaConf.load(path).species for path in sorted(conf_dir().glob("species/*.yaml"))}
    name = key.removeprefix("env.")
    owners = [s for s in events.values() if name in s.event["keys"].values()]
    if not owners or species not in events or any(s.name == species for s in owners):
        return None
    role = next(role for role, own in owners[0].event["keys"].items() if own == name)
    instead = events[species].event["keys"].get(role)
    hint = f". Type env.{instead}=…" if instead else ""
    return ConfigError(
        f"{key}: means nothing for species={species}; it is a key of {', '.join(s.name for s in owners)}{hint}"
    )


def _check_entropy(key: str, value: object) -> None:
    if isinstance(value, str):
        head, _, tail = value.partition("_")
        try:
            good = head == "auto" and (not tail or float(tail) > 0)
        except ValueError:
            good = False
    else:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    if not good:
        raise wrong_value(key, value, "auto, auto_<first value> or a number 0 or more", "auto")


def _check_target_entropy(key: str, value: object) -> None:
    if value != "auto" and (not isinstance(value, (int, float)) or isinstance(value, bool)):
        raise wrong_value(key, value, "auto or a number", "auto")


_SPECIAL = {"sac.ent_coef": _check_entropy, "sac.target_entropy": _check_target_entropy}
