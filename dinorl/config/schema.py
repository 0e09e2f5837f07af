"""The schema of a composed config: types and ranges; values are in ``conf/``.

Angles are rad, lengths m, speeds m/s, times s, unless a field says otherwise. ``conf/base/*.yaml`` explains every key.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

from omegaconf import DictConfig, OmegaConf
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo
from pydantic.dataclasses import dataclass

from dinorl.config.algorithms import ALGORITHMS, ALWAYS_THERE, Algorithm, PPOConfig, SACConfig
from dinorl.config.check import checked, with_fields
from dinorl.config.env import EnvConfig, env_type
from dinorl.config.kinds import (
    NODE,
    Count,
    Expected,
    Flag,
    NonNegative,
    Number,
    OneOrMore,
    Positive,
    PositiveShare,
    Share,
    Steps,
    Whole,
    Word,
    example,
)
from dinorl.config.secrets import hide, keep
from dinorl.tasks.parameters import event_parameters

STAGES = ("balance", "locomotion", "behavior")

if TYPE_CHECKING:
    AlgorithmName: TypeAlias = str
    StageName: TypeAlias = str
else:
    AlgorithmName, StageName = Literal[tuple(ALGORITHMS)], Literal[STAGES]


def _known_roles(keys: dict[str, str]) -> dict[str, str]:
    try:
        event_parameters(keys)
    except KeyError as error:
        raise ValueError(f"no such role: {error}") from error
    if not all(key.isidentifier() for key in keys.values()):
        raise ValueError("no key")
    return keys


@dataclass(config=NODE)
class EventConfig:
    """The event of the third stage."""

    name: Word  # strike | bite | food_reach
    effectors: list[Word]  # sites and geoms in the MJCF
    # role -> key below env
    keys: Annotated[
        dict[Word, Word],
        AfterValidator(_known_roles),
        Expected("keys below env, by roles as in conf/species/trex.yaml"),
    ]


@dataclass(config=NODE)
class SpeciesConfig:
    """An animal."""

    name: Word
    title: Word  # for people
    gym_name: Word  # dinorl/<gym_name>-<Stage>-v0
    mjcf: Word  # relative to dinorl/species
    feet: list[Word]  # (left, right) of each girdle, front first
    gait_phase: list[Number]  # offset in the gait clock, 0..1
    event: EventConfig


@dataclass(config=NODE)
class StageConfig:
    """A stage of the curriculum."""

    name: StageName
    index: Whole  # 1 | 2 | 3


Device = Literal["auto", "cpu", "cuda"]


@dataclass(config=NODE)
class AlgoConfig:
    """The choice of an algorithm."""

    name: AlgorithmName
    device: Device


Ramp = Annotated[Steps, example(500000)]


# What a stage gets from the one before.
HandOver = Literal["all", "policy", "statistics", "nothing"]
POLICY_HANDED_OVER = ("all", "policy")
# The reward weight of curriculum.ramp_*.
RAMPED_WEIGHT = "forward_vel_weight"


@dataclass(config=NODE)
class CurriculumConfig:
    """A stage's budget, gate, warm-up and ramps."""

    timesteps: Annotated[OneOrMore, example(1000000)]
    min_avg_reward: Number | None
    min_avg_episode_length: Number | None
    min_avg_forward_vel: Number | None
    min_avg_approach_vel: Number | None
    min_gait_alternation: Annotated[Share | None, example(0.9)]
    max_fall_rate: Annotated[Share | None, example(0.02)]
    min_success_rate: Annotated[Share | None, example(0.9)]
    min_success_lcb: Annotated[Share | None, example(0.9)]
    required_consecutive: Annotated[OneOrMore, example(3)]
    on_budget: Literal["advance", "stop"]
    warmup_timesteps: Annotated[Steps, example(100000)]
    warmup_updates: Annotated[Steps, example(20)]
    warmup_clip_range: Annotated[Positive | None, example(0.02)]
    warmup_ent_coef: Annotated[NonNegative | None, example(0.02)]
    warmup_actor_scale: Annotated[Share | None, example(0.0)]
    hand_over: HandOver
    handover_log_std: Number | None
    push_scale: Annotated[NonNegative, example(1.5)]
    bearing_scale: Annotated[NonNegative, example(1.3)]
    bearing_scale_start: Annotated[NonNegative | None, example(0.5)]
    bearing_ramp_timesteps: Ramp
    episode_scale: Annotated[PositiveShare, example(0.5)]
    episode_scale_start: Annotated[PositiveShare | None, example(0.2)]
    episode_ramp_timesteps: Ramp
    ramp_timesteps: Ramp
    ramp_updates: Annotated[Steps, example(100)]
    ramp_start_value: Number | None


@dataclass(config=NODE)
class SimConfig:
    """The simulation."""

    backend: Literal["cpu", "warp"]
    device: Device
    deterministic: Flag
    n_envs: Annotated[Count, example(64)]
    threads: Annotated[Whole, Field(ge=0, le=1 << 10), example(0)]
    timestep: Annotated[Number, Field(gt=0, le=0.02), example(0.004)]
    frame_skip: Annotated[Whole, Field(ge=1, le=1000), example(5)]
    max_fault_rate: Annotated[Share, example(0.0001)]


@dataclass(config=NODE)
class EvalConfig:
    """Evaluations within a stage."""

    episodes: Annotated[Count, example(32)]
    seed: Annotated[Steps, example(1000000)]
    every: Annotated[OneOrMore, example(250000)]
    start: Annotated[Steps, example(0)]
    keep: Annotated[Count, example(2)]
    video_seconds: Annotated[Number, Field(ge=0, le=3600), example(6)]


def _without_password(address: str | None) -> str | None:
    if address is not None and hide(address) != address:
        raise ValueError("a password would stand in every bundle; give it as the file system reads it, such as AWS_…")
    return address


@dataclass(config=NODE)
class TrackingConfig:
    """MLflow."""

    uri: Annotated[Word | None, AfterValidator(keep)]
    experiment: Word
    required: Flag
    log_every: Annotated[Positive, example(1)]
    models: Flag
    system_metrics: Flag
    bundles: Annotated[Word | None, AfterValidator(_without_password), example("file:///tmp/bundles")]
    # set by the sweeper
    sweep: Word | None
    lineage: Word | None
    lineages: Word | None
    parent: Word | None
    job: Word | None  # hash of the job
    start: Word | None  # hash of the job before it


def _env_of_species(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, EnvConfig):
        return value
    if "species" not in info.data:
        raise ValueError("the species is invalid, and decides which keys there are")
    return checked(env_config_type(info.data["species"]), value, "env.")


@dataclass(config=NODE)
class Config:
    """One stage of one animal."""

    species: SpeciesConfig
    stage: StageConfig
    algo: AlgoConfig
    ppo: PPOConfig
    sac: SACConfig
    env: Annotated[EnvConfig, PlainValidator(_env_of_species)]
    curriculum: CurriculumConfig
    sim: SimConfig
    eval: EvalConfig
    tracking: TrackingConfig
    seed: Annotated[Whole, Field(ge=0, le=1 << 20), example(0)]
    warm_start: Word | None
    resume: Flag
    plan_only: Flag

    @property
    def algorithm(self) -> Algorithm:
        """The options of the chosen algorithm."""
        return cast(Algorithm, getattr(self, self.algo.name))

    @property
    def warmup_steps(self) -> int:
        """Environment steps of the warm-up."""
        return self.curriculum.warmup_timesteps + self._in_steps(self.curriculum.warmup_updates)

    @property
    def ramp_steps(self) -> int:
        """Environment steps of the ramp of :data:`RAMPED_WEIGHT`."""
        return self.curriculum.ramp_timesteps + self._in_steps(self.curriculum.ramp_updates)

    def _in_steps(self, updates: int) -> int:
        return updates * (self.algorithm.rollout(self.sim.n_envs) or 0)

    @property
    def stage_label(self) -> str:
        """Label of the stage, such as ``bite``."""
        return stage_label(self.stage.name, self.species.event.name)


def _folder_name(name: str | None) -> str | None:
    good = name is None or (re.fullmatch(r"[^/\\\s.-][^/\\\x00-\x1f]*", name) and len(name.encode()) <= 200)
    if not good:
        raise ValueError("no name of a folder")
    return name


def _text_of_number(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) else value


@dataclass(config=NODE, frozen=True)
class SweepConfig:
    """``sweep.*``: options of the command."""

    # folder in outputs/; null: time and id
    name: Annotated[
        Word | None,
        BeforeValidator(_text_of_number),
        AfterValidator(_folder_name),
        Expected("the name of a folder below outputs/"),
        example("first"),
    ] = None
    # of a job whose process died
    retries: Annotated[Steps, example(1)] = 1
    # false: no own process, for debuggers
    isolate: Annotated[Flag, example("false")] = True

    @classmethod
    def of(cls, node: DictConfig) -> SweepConfig:
        """Check the composed node.

        Raises:
            ConfigError: a key is unknown, or a value is impossible.
        """
        return checked(cls, OmegaConf.to_container(node, resolve=True), "sweep.")


@dataclass(config=NODE, frozen=True)
class SearchConfig:
    """``search.*``: options of ``hydra/sweeper=search``; values and meanings are in ``conf/search.yaml``."""

    samples: Annotated[Count, example(30)]
    algorithm: Literal["random", "optuna", "grid"]
    seed: Annotated[Steps, example(0)]
    seeds: Annotated[Whole, Field(ge=1, le=100), example(3)]
    metric: Word
    scheduler: Literal["asha", "median", "pbt", "none"]
    grace: Annotated[OneOrMore | None, example(250000)]
    interval: Annotated[OneOrMore | None, example(500000)]
    quantile: Annotated[Number, Field(gt=0, le=0.5), example(0.25)]
    reduction: Annotated[Number, Field(gt=1, le=1000), example(3)]
    jobs: Annotated[Count | None, example(2)]

    @classmethod
    def of(cls, node: DictConfig) -> SearchConfig:
        """Check the composed node.

        Raises:
            ConfigError: a key is unknown, or a value is impossible.
        """
        return checked(cls, OmegaConf.to_container(node, resolve=True), "search.")


@lru_cache
def config_type(algorithm: str) -> type[Config]:
    """Return the config type with an algorithm's node."""
    if algorithm in ALWAYS_THERE or algorithm not in ALGORITHMS:
        return Config
    return with_fields(f"Config_{algorithm}", Config, {algorithm: ALGORITHMS[algorithm]})


def env_config_type(species: SpeciesConfig) -> type[EnvConfig]:
    """Return the type of ``env`` for a species, with the keys of its event."""
    return env_type(species.name, tuple(species.event.keys.items()))


def stage_label(stage: str, event: str) -> str:
    """Return the label of a stage; the third is named after the species' event."""
    return event if stage == "behavior" else stage
