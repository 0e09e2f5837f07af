"""Histories of stage runs for tests: the zoo's healthy ones, and the same with numbers of a sick run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dinorl.verdicts.diagnosis import diagnose, histories
from dinorl.verdicts.history import Evaluation, History
from dinorl.verdicts.playbook import Playbook


@dataclass(frozen=True)
class Sick:
    """A healthy run of the zoo, and what differs in a sick one.

    Attributes:
        zoo: its name.
        metrics: of the evaluation; a list: of each evaluation.
        config: keys that differ.
    """

    zoo: str
    metrics: Mapping[str, float] | list[Mapping[str, float]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def healthy(name: str) -> History:
    """The history of a zoo policy."""
    [found] = histories(name)
    return found


def sick(case: Sick) -> History:
    """The history of the sick run."""
    base = healthy(case.zoo)
    rows = case.metrics if isinstance(case.metrics, list) else [case.metrics]
    evaluations = [Evaluation(100_000 * (i + 1), 0, {**base.kept.metrics, **row}) for i, row in enumerate(rows)]
    return replace(base, config={**base.config, **case.config}, evaluations=evaluations, kept=evaluations[-1])


def names(playbook: Playbook, *runs: History) -> set[str]:
    """The names of the symptoms of runs, alone and together."""
    return {found.name for one in diagnose(runs, playbook) for found in one.found}


WEIGHT_TIMES_LENGTH = 0.1 * 1000  # of the T. rex's spin and drift penalties
SICK = {
    "falls_at_once": Sick("trex/balance", {"fall_rate": 1.0, "length_mean": 54.0, "return_mean": 32.0}),
    "hops_or_drifts": Sick("trex/balance", {"gait.flight_fraction": 0.2}),
    "spins": Sick("trex/balance", {"reward.spin_penalty": -1.5 * WEIGHT_TIMES_LENGTH}),
    "plateau": Sick("trex/balance", [{"return_mean": value} for value in (200.0, 400.0, 590.0, 598.0, 600.0, 599.0)]),
    "jerky": Sick("trex/balance", {"reward.smoothness": -0.2 * 1000 * 0.05}),
    "speed_near_zero": Sick("trex/locomotion", {"forward_speed_mean_mps": 0.02}),
    "crab_walk": Sick("trex/locomotion", {"forward_speed_mean_mps": 1.0, "lateral_speed_mean_mps": 0.8}),
    "falls_often": Sick("trex/locomotion", {"fall_rate": 0.4, "length_mean": 700.0}),
    "ice_skating": Sick("trex/locomotion", {"gait.foot_slip_mps": 3.5}),
    "too_fast": Sick("trex/locomotion", {"forward_speed_mean_mps": 5.2, "fall_rate": 0.2}),
    "event_never_happens": Sick("trex/bite", {"success_rate": 0.0, "length_mean": 1000.0}),
    "lingers": Sick(
        "trex/bite",
        {"success_rate": 0.2, "length_mean": 900.0, "reward.bite_head_proximity": 0.2 * 900 * 0.6},
    ),
    "forgets_to_walk": Sick("trex/bite", {"fall_rate": 1.0, "success_rate": 0.0, "length_mean": 60.0}),
    "learns_then_regresses": Sick("trex/bite", [{"success_rate": value} for value in (0.3, 0.9, 0.5)]),
    "bonus_does_not_dominate": Sick(
        "trex/bite",
        {"return_mean": 1500.0, "length_mean": 1000.0, "reward.bite_bonus": 0.0},
        {"env.alive_bonus": 1.0},
    ),
    "minibatches_do_not_divide": Sick("trex/bite", config={"ppo.batch_size": 5000}),
    "learning_rate_large": Sick("trex/balance", config={"ppo.learning_rate": 0.01}),
    "clip_range_wide": Sick("trex/bite", config={"ppo.clip_range": 0.4}),
    "entropy_not_tuned": Sick("trex/balance-sac", config={"sac.ent_coef": 0.2}),
    "replay_starved": Sick("trex/balance-sac", config={"sac.train_freq": 8}),
    "replay_overused": Sick("trex/balance-sac", config={"sac.gradient_steps": 1024}),
    "buffer_small": Sick("trex/balance-sac", config={"sac.buffer_size": 10_000}),
}
