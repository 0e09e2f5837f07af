"""The schema of a composed config: types live here, values live in ``conf/``.

Angles are rad, lengths m, speeds m/s, times s, unless a field says otherwise. Every field is explained, with its unit,
beside its value in ``conf/base/*.yaml``; this module only says what type it has and what range makes sense.
"""

from dataclasses import dataclass, make_dataclass
from functools import lru_cache
from typing import Any

STAGES = ("balance", "locomotion", "behavior")


@dataclass
class PPOPolicyConfig:
    net_arch: list[int]
    activation_fn: str  # relu | elu | tanh
    log_std_init: float
    mirror: bool


@dataclass
class PPOConfig:
    learning_rate: float
    learning_rate_end: float | None
    lr_schedule: str  # linear | cosine
    n_steps: int
    batch_size: int
    n_epochs: int
    gamma: float
    gae_lambda: float
    clip_range: float
    clip_range_end: float | None
    ent_coef: float
    ent_coef_end: float | None
    vf_coef: float
    max_grad_norm: float
    target_kl: float | None
    policy_kwargs: PPOPolicyConfig


@dataclass
class SACPolicyConfig:
    net_arch: list[int]
    activation_fn: str
    layer_norm: bool
    log_std_init: float
    mirror: bool


@dataclass
class SACConfig:
    learning_rate: float
    learning_rate_end: float | None
    lr_schedule: str
    batch_size: int
    gamma: float
    tau: float
    actor_tau: float | None
    ent_coef: Any  # "auto", "auto_<initial value>" or a number
    ent_coef_end: float | None
    target_entropy: Any  # "auto" or a number
    buffer_size: int
    learning_starts: int
    train_freq: int
    gradient_steps: int
    n_steps: int
    save_replay_buffer: bool
    policy_kwargs: SACPolicyConfig


@dataclass
class EnvConfig:
    """The knobs every animal has; those of its event are added by :func:`env_config_type`."""

    alive_bonus: float
    fall_penalty: float
    forward_vel_weight: float
    forward_vel_max: float | None
    backward_vel_penalty_weight: float
    drift_penalty_weight: float
    speed_penalty_weight: float
    speed_penalty_threshold: float
    spin_penalty_weight: float
    heading_weight: float
    lateral_penalty_weight: float
    posture_weight: float
    nosedive_weight: float
    natural_pitch: float
    nosedive_termination_threshold: float | None
    height_weight: float
    tail_stability_weight: float
    gait_stability_weight: float
    gait_symmetry_weight: float
    gait_clock_weight: float
    gait_clock_frequency: float
    gait_clock_duty: float
    gait_full_speed: float
    foot_slip_penalty_weight: float
    short_swing_penalty_weight: float
    smoothness_weight: float
    energy_penalty_weight: float
    idle_penalty_weight: float
    idle_velocity_threshold: float
    foot_contact_gate: float
    foot_contact_weight: float
    action_time_constant: float
    healthy_z_range: list[float]
    max_tilt_angle: float
    reset_noise_scale: float
    first_target_bearing_range: list[float]
    event_hold: float
    max_episode_steps: int
    push_interval: float
    push_speed: float


# The knobs of an event by their role; a species says under which key each goes (``species.event.keys``).
EVENT_ROLES: dict[str, Any] = {
    "bonus": float,
    "approach_weight": float,
    "progress_weight": float,
    "proximity_weight": float,
    "effector_proximity_weight": float,
    "threshold": float,
    "distance_range": list[float],
    "lateral_range": list[float],
    "height_range": list[float],
}


@dataclass
class EventConfig:
    name: str  # how people call the third stage: strike | bite | food_reach
    effectors: list[str]  # sites and geoms in the MJCF
    keys: dict[str, str]  # role -> key under env


@dataclass
class SpeciesConfig:
    name: str
    title: str  # as a person writes it
    gym_name: str  # dinorl/<gym_name>-<Stage>-v0
    mjcf: str  # relative to dinorl/species
    feet: list[str]  # left and right of each girdle, the front girdle first
    gait_phase: list[float]  # each foot's offset in the gait clock's cycle, 0..1
    event: EventConfig


@dataclass
class StageConfig:
    name: str  # balance | locomotion | behavior
    index: int  # 1 | 2 | 3


@dataclass
class AlgoConfig:
    name: str  # ppo | sac


@dataclass
class CurriculumConfig:
    timesteps: int
    min_avg_reward: float | None
    min_avg_episode_length: float | None
    min_avg_forward_vel: float | None
    min_avg_approach_vel: float | None
    min_gait_alternation: float | None
    max_fall_rate: float | None
    min_success_rate: float | None
    min_success_lcb: float | None
    required_consecutive: int
    on_budget: str  # advance | stop
    warmup_timesteps: int
    warmup_clip_range: float | None
    warmup_ent_coef: float | None
    warmup_actor_scale: float | None
    handover_log_std: float | None
    push_scale: float
    bearing_scale: float
    bearing_scale_start: float | None
    bearing_ramp_timesteps: int
    episode_scale: float
    episode_scale_start: float | None
    episode_ramp_timesteps: int
    ramp_timesteps: int
    ramp_start_value: float | None


@dataclass
class SimConfig:
    n_envs: int
    threads: int
    timestep: float
    frame_skip: int
    max_fault_rate: float


@dataclass
class EvalConfig:
    episodes: int
    seed: int
    every: int
    start: int
    keep: int
    video_seconds: float


@dataclass
class TrackingConfig:
    uri: str | None
    experiment: str
    required: bool
    log_every: float
    # set by the sweeper for each job, no part of what is trained
    sweep: str | None
    lineage: str | None
    lineages: str | None
    parent: str | None
    job: str | None  # hash of all that the stage is trained on


@dataclass
class Config:
    species: SpeciesConfig
    stage: StageConfig
    algo: AlgoConfig
    ppo: PPOConfig
    sac: SACConfig
    env: EnvConfig
    curriculum: CurriculumConfig
    sim: SimConfig
    eval: EvalConfig
    tracking: TrackingConfig
    seed: int
    warm_start: str | None
    resume: bool
    plan_only: bool


@lru_cache
def _env_type(species: str, keys: tuple[tuple[str, str], ...]) -> type[EnvConfig]:
    return make_dataclass(f"EnvConfig_{species}", [(key, EVENT_ROLES[role]) for role, key in keys], bases=(EnvConfig,))


def env_config_type(species: SpeciesConfig) -> type[EnvConfig]:
    """Return the type of ``env`` for a species: the knobs of every animal and those of its own event."""
    return _env_type(species.name, tuple(species.event.keys.items()))


def stage_label(stage: str, event: str) -> str:
    """Return what people call a stage: the third goes by the species' event."""
    return event if stage == "behavior" else stage
