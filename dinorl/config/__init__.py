"""The composed config: its schema, its strict rebuild, and composing without the command line."""

from dinorl.config.compose import compose
from dinorl.config.errors import ConfigError
from dinorl.config.schema import (
    EVENT_ROLES,
    STAGES,
    AlgoConfig,
    Config,
    CurriculumConfig,
    EnvConfig,
    EvalConfig,
    EventConfig,
    PPOConfig,
    PPOPolicyConfig,
    SACConfig,
    SACPolicyConfig,
    SimConfig,
    SpeciesConfig,
    StageConfig,
    TrackingConfig,
    env_config_type,
    stage_label,
)
from dinorl.config.strict import build, flatten, to_container
from dinorl.config.together import MIN_EPISODES
from dinorl.config.tree import CONFIG_NAME, base_values, conf_dir

__all__ = [
    "CONFIG_NAME", "EVENT_ROLES", "MIN_EPISODES", "STAGES", "AlgoConfig", "Config", "ConfigError",
    "CurriculumConfig", "EnvConfig", "EvalConfig", "EventConfig", "PPOConfig", "PPOPolicyConfig", "SACConfig",
    "SACPolicyConfig", "SimConfig", "SpeciesConfig", "StageConfig", "TrackingConfig", "base_values", "build",
    "compose", "conf_dir", "env_config_type", "flatten", "stage_label", "to_container",
]  # fmt: skip
