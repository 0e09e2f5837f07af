"""The type of ``env``, built from the keys that ``dinorl.tasks`` declares."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, get_type_hints

from pydantic import Field

from dinorl.config.check import with_fields
from dinorl.config.kinds import Interval, Number, Whole
from dinorl.tasks.declare import Parameter
from dinorl.tasks.parameters import env_parameters, event_parameters

# Checked type of each declared type.
_KINDS: dict[Any, Any] = {
    float: Number, int: Whole, float | None: Number | None, list[float]: Interval,
}  # fmt: skip


class EnvConfig:
    """Keys of ``env`` that code reads by name; :func:`env_config_type` makes the whole node."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # for dataclasses.replace

    fall_penalty: float
    forward_vel_weight: float
    forward_vel_max: float | None
    speed_penalty_threshold: float
    natural_pitch: float
    nosedive_termination_threshold: float | None
    gait_clock_frequency: float
    gait_clock_duty: float
    gait_full_speed: float
    idle_velocity_threshold: float
    foot_contact_gate: float
    action_time_constant: float
    healthy_z_range: list[float]
    max_tilt_angle: float
    reset_noise_scale: float
    first_target_bearing_range: list[float]
    event_hold: float
    max_episode_steps: int
    push_interval: float
    push_speed: float


def parameters_of(event_keys: Mapping[str, str]) -> dict[str, Parameter]:
    """Return the declared keys of ``env`` by name, including an event's."""
    return {parameter.name: parameter for parameter in (*env_parameters(), *event_parameters(event_keys))}


@lru_cache
def env_type(species: str, event_keys: tuple[tuple[str, str], ...]) -> type[EnvConfig]:
    """Return the type of a species' ``env``.

    Args:
        species: its name.
        event_keys: (role, key) pairs of its event.
    """
    fields = {name: _kind_of(parameter) for name, parameter in parameters_of(dict(event_keys)).items()}
    return with_fields(f"EnvConfig_{species}", EnvConfig, fields)


def _kind_of(parameter: Parameter) -> Any:
    """Return the annotation that checks a parameter."""
    examples = None if parameter.example is None else [parameter.example]
    bounds: Any = Field(gt=parameter.gt, ge=parameter.ge, le=parameter.le, examples=examples)
    return Annotated[_KINDS[parameter.kind], bounds]


def _check_static_keys() -> None:
    """Check :class:`EnvConfig` against the declarations.

    Raises:
        TypeError: a key differs.
    """
    declared = {parameter.name: parameter.kind for parameter in env_parameters()}
    for key, kind in get_type_hints(EnvConfig).items():
        if not key.startswith("__") and declared.get(key) != kind:
            raise TypeError(f"EnvConfig.{key}: expected {declared.get(key)}, as dinorl.tasks declares, found {kind}")


_check_static_keys()
