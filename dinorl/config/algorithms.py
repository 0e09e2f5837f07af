"""Options of every algorithm: types, ranges and rules.

A new algorithm needs a dataclass here with a line in :data:`ALGORITHMS`, ``conf/algo/<name>.yaml`` with its values
below its name, and ``dinorl/learners/<name>.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from dinorl.config.errors import ConfigError
from dinorl.config.kinds import (
    NODE,
    Count,
    Expected,
    Flag,
    Many,
    NonNegative,
    Number,
    Positive,
    PositiveShare,
    Share,
    Steps,
    Whole,
    example,
)
from dinorl.tasks.declare import Need

Activation = Literal["elu", "relu", "tanh"]
Schedule = Literal["linear", "cosine"]


def _few_layers(layers: list[int]) -> list[int]:
    if not 1 <= len(layers) <= 16 or min(layers) < 1 or max(layers) > 4096:
        raise ValueError("too many layers or units")
    return layers


def _entropy_coefficient(value: Any) -> Any:
    if isinstance(value, str):
        head, _, tail = value.partition("_")
        if head != "auto" or (tail and not float(tail) > 0):
            raise ValueError("not auto")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("not a coefficient")
    return value


def _target_entropy(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if value != "auto" and not number:
        raise ValueError("not an entropy")
    return value


Layers = Annotated[
    list[Whole],
    AfterValidator(_few_layers),
    Expected("1 to 16 layers of 1 to 4096 units each"),
    example("[128,128]"),
]
EntropyCoefficient = Annotated[
    Any,
    AfterValidator(_entropy_coefficient),
    Expected("auto, auto_<first value> or a number 0 or more"),
    example("auto"),
]
TargetEntropy = Annotated[Any, AfterValidator(_target_entropy), Expected("auto or a number"), example("auto")]
LearningRate = Annotated[PositiveShare, example("3e-4")]
LastLearningRate = Annotated[Share | None, example("1e-4")]
Gamma = Annotated[PositiveShare, example(0.99)]
BatchSize = Annotated[Many, example(256)]


class PolicyOptions:
    """Network options that all algorithms share."""

    net_arch: list[int]
    activation_fn: str
    log_std_init: float
    mirror: bool


class Algorithm:
    """Options that all algorithms share, and hooks for the rules of one."""

    learning_rate: float
    learning_rate_end: float | None
    lr_schedule: str
    gamma: float
    policy_kwargs: Any  # PolicyOptions

    # must be equal for a warm start
    handed_over: ClassVar[tuple[str, ...]] = ("net_arch", "activation_fn", "mirror")
    # warm-up keys of this algorithm
    warmup: ClassVar[tuple[str, ...]] = ()
    # may change when a stage is resumed
    live: ClassVar[tuple[str, ...]] = ()
    # rewards of earlier steps are learned from again
    keeps_rewards: ClassVar[bool] = False
    # conditions for a key's effect
    needs: ClassVar[Mapping[str, Need]] = {}

    def rollout(self, n_envs: int) -> int | None:
        """Return the environment steps of an update, or None if there are no rollouts."""
        return None

    def check(self, n_envs: int) -> None:
        """Check options against each other.

        Raises:
            ConfigError: they are impossible together.
        """


@dataclass(config=NODE)
class PPOPolicyConfig(PolicyOptions):
    """PPO's networks."""

    net_arch: Layers
    activation_fn: Activation
    log_std_init: Number
    mirror: Flag


@dataclass(config=NODE)
class PPOConfig(Algorithm):
    """Proximal policy optimisation."""

    warmup: ClassVar[tuple[str, ...]] = ("warmup_clip_range",)
    live: ClassVar[tuple[str, ...]] = (
        "learning_rate", "learning_rate_end", "lr_schedule", "batch_size", "n_epochs", "gamma", "gae_lambda",
        "clip_range", "clip_range_end", "ent_coef", "ent_coef_end", "vf_coef", "max_grad_norm", "target_kl",
    )  # fmt: skip

    learning_rate: LearningRate
    learning_rate_end: LastLearningRate
    lr_schedule: Schedule
    n_steps: Annotated[Count, example(24)]
    batch_size: BatchSize
    n_epochs: Annotated[Count, example(5)]
    gamma: Gamma
    gae_lambda: Annotated[Share, example(0.95)]
    clip_range: Annotated[Positive, example(0.2)]
    clip_range_end: Annotated[Positive | None, example(0.1)]
    ent_coef: Annotated[NonNegative, example(0.0)]
    ent_coef_end: Annotated[NonNegative | None, example(0.0)]
    vf_coef: Annotated[NonNegative, example(0.5)]
    max_grad_norm: Annotated[Positive, example(1.0)]
    target_kl: Annotated[Positive | None, example(0.02)]
    policy_kwargs: PPOPolicyConfig

    def rollout(self, n_envs: int) -> int:
        """Return the environment steps of an update."""
        return self.n_steps * n_envs

    def minibatch(self, n_envs: int) -> int:
        """Return the samples of a minibatch: a rollout that has fewer than ``batch_size`` is one."""
        return min(self.batch_size, self.rollout(n_envs))

    def check(self, n_envs: int) -> None:
        """Check that minibatches divide the rollout.

        Raises:
            ConfigError: they do not, or the rollout has one sample.
        """
        rollout = self.rollout(n_envs)
        if rollout % self.minibatch(n_envs):
            small = [d for d in range(1, math.isqrt(rollout) + 1) if rollout % d == 0]
            best = min((*small, *(rollout // d for d in small)), key=lambda d: abs(d - self.batch_size))
            raise ConfigError(
                key="ppo.batch_size",
                found=str(self.batch_size),
                expected=f"a divisor of ppo.n_steps × sim.n_envs = {self.n_steps} × {n_envs} = {rollout}",
                hint=f"Type ppo.batch_size={best}",
            )
        if rollout < 2:
            raise ConfigError(
                "with sim.n_envs=1 a rollout has one sample", key="ppo.n_steps", found="1", hint="Type ppo.n_steps=24"
            )


@dataclass(config=NODE)
class SACPolicyConfig(PolicyOptions):
    """SAC's networks."""

    net_arch: Layers
    activation_fn: Activation
    layer_norm: Flag
    log_std_init: Number
    mirror: Flag


@dataclass(config=NODE)
class SACConfig(Algorithm):
    """Soft actor-critic."""

    warmup: ClassVar[tuple[str, ...]] = ("warmup_actor_scale",)
    live: ClassVar[tuple[str, ...]] = (
        "learning_rate", "learning_rate_end", "lr_schedule", "batch_size", "gamma", "tau", "target_entropy",
        "gradient_steps", "policy_delay",
    )  # fmt: skip
    keeps_rewards: ClassVar[bool] = True
    needs: ClassVar[Mapping[str, Need]] = dict.fromkeys(
        ("sac.ent_coef_end", "curriculum.warmup_ent_coef"),
        Need(
            lambda sac: not isinstance(sac.ent_coef, str),
            "SAC tunes its entropy coefficient itself",
            "Type sac.ent_coef=0.02",
        ),
    )

    learning_rate: LearningRate
    learning_rate_end: LastLearningRate
    lr_schedule: Schedule
    batch_size: BatchSize
    gamma: Gamma
    tau: Annotated[PositiveShare, example(0.005)]
    actor_tau: Annotated[PositiveShare | None, example(0.001)]
    ent_coef: EntropyCoefficient
    ent_coef_end: Annotated[NonNegative | None, example(0.0)]
    target_entropy: TargetEntropy
    buffer_size: Annotated[Whole, Field(ge=1, le=1 << 30), example(300000)]
    learning_starts: Annotated[Steps, example(5000)]
    train_freq: Annotated[Count, example(1)]
    gradient_steps: Annotated[Count, example(8)]
    policy_delay: Annotated[Count, example(2)]
    n_steps: Annotated[Count, example(3)]
    save_replay_buffer: Flag
    policy_kwargs: SACPolicyConfig


ALGORITHMS: dict[str, type[Algorithm]] = {"ppo": PPOConfig, "sac": SACConfig}
# Other nodes exist only if chosen.
ALWAYS_THERE = ("ppo", "sac")


def left_out(algorithm: str) -> set[str]:
    """Return the algorithms without a node in a config that chooses ``algorithm``."""
    return set(ALGORITHMS) - {*ALWAYS_THERE, algorithm}
