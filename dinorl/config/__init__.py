"""The composed config: its schema, its strict rebuild, and composing without the command line."""

from dinorl.config.algorithms import ALGORITHMS, Algorithm, PPOConfig, PPOPolicyConfig, SACConfig, SACPolicyConfig
from dinorl.config.compose import compose
from dinorl.config.env import EnvConfig
from dinorl.config.errors import ConfigError
from dinorl.config.schema import (
    POLICY_HANDED_OVER,
    RAMPED_WEIGHT,
    STAGES,
    AlgoConfig,
    Config,
    CurriculumConfig,
    EvalConfig,
    EventConfig,
    HandOver,
    SearchConfig,
    SimConfig,
    SpeciesConfig,
    StageConfig,
    SweepConfig,
    TrackingConfig,
    env_config_type,
    stage_label,
)
from dinorl.config.strict import build, flatten, to_container
from dinorl.config.together import MIN_EPISODES
from dinorl.config.tree import CONFIG_NAME, base_values, conf_dir

__all__ = [
    "ALGORITHMS", "CONFIG_NAME", "MIN_EPISODES", "POLICY_HANDED_OVER", "RAMPED_WEIGHT", "STAGES", "AlgoConfig",
    "Algorithm", "Config", "ConfigError", "CurriculumConfig", "EnvConfig", "EvalConfig", "EventConfig", "HandOver",
    "PPOConfig", "PPOPolicyConfig", "SACConfig", "SACPolicyConfig", "SearchConfig", "SimConfig", "SpeciesConfig",
    "StageConfig", "SweepConfig", "TrackingConfig", "base_values", "build", "compose", "conf_dir", "env_config_type",
    "flatten", "stage_label", "to_container",
]  # fmt: skip
