"""Measures of a stage run: the metrics of an evaluation by their names, and what is derived from them.

Symptoms of ``conf/playbook.yaml`` compare these. A derived measure is one function here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dinorl.evaluation.metrics import METRICS
from dinorl.tasks.declare import logged_name
from dinorl.training.gate import THRESHOLDS
from dinorl.verdicts.history import Evaluation, History

TEXTBOOK_RATE = 3e-4  # Schulman et al. 2017 and Haarnoja et al. 2018
TEXTBOOK_BATCH = {"ppo": 64, "sac": 256}  # samples in their minibatches
WALK = 1.0  # m/s towards the target, if the event never happened; third stages: 1.0 to 1.3
CURVE = 6  # evaluations that show a trend


class NotMeasured(Exception):
    """A run has no such number; the message says why."""


@dataclass(frozen=True)
class Value:
    """A measured number.

    Attributes:
        number: it.
        how: how it was computed, for people; may be empty.
    """

    number: float
    how: str = ""


@dataclass(frozen=True)
class Measure:
    """A number of a stage run.

    Attributes:
        name: in the playbook.
        title: for people, with the unit.
        form: format for people.
        of_run: computes it for an evaluation of a run; None: it compares seeds.
        of_seeds: computes it for runs that differ in their seeds.
        documented: the function with its description.
    """

    name: str
    title: str
    form: str
    of_run: Callable[[History, Evaluation], Value] | None = None
    of_seeds: Callable[[Sequence[History]], Value] | None = None
    documented: Callable[..., Value] | None = None


MEASURES: dict[str, Measure] = {}


def _measure(title: str, form: str) -> Callable[..., Callable[..., Value]]:
    """Return a decorator that adds ``(history, evaluation)`` → value under the function's name."""

    def add(function: Callable[[History, Evaluation], Value]) -> Callable[[History, Evaluation], Value]:
        name = function.__name__
        MEASURES[name] = Measure(name, title, form, of_run=function, documented=function)
        return function

    return add


def _metric(name: str, history: History, evaluation: Evaluation) -> Value:
    if name not in evaluation.metrics:
        raise NotMeasured(f"the evaluation has no {name}")
    return Value(evaluation.metrics[name])


MEASURES |= {m.name: Measure(m.name, m.title, m.form, of_run=partial(_metric, m.name)) for m in METRICS}


# An episode -----------------------------------------------------------------------------------------------------------


@_measure("length as a share of the longest episode", ".0%")
def length_share(h: History, e: Evaluation) -> Value:
    """Mean episode length as a share of ``env.max_episode_steps``."""
    return Value(e.metrics["length_mean"] / h.value("env.max_episode_steps"))


@_measure("speed in any direction, m/s", ".2f")
def mean_speed(h: History, e: Evaluation) -> Value:
    """Mean horizontal speed in any direction: path length by time."""
    return Value(e.metrics["distance_mean_m"] / (e.metrics["length_mean"] * _dt(h)))


@_measure("distance from where it began, m", ".2f")
def drift(h: History, e: Evaluation) -> Value:
    """Mean distance from where the episode began, from the reward term ``drift_penalty``."""
    return Value(-_signal(h, e, "drift_penalty_weight"))


@_measure("yaw rate, rad/s", ".2f")
def yaw_rate(h: History, e: Evaluation) -> Value:
    """Mean yaw rate without sign, from the reward term ``spin_penalty``."""
    return Value(-_signal(h, e, "spin_penalty_weight"))


@_measure("squared change of action a step", ".4f")
def action_change(h: History, e: Evaluation) -> Value:
    """Mean squared change of action a control step, from the reward term ``smoothness``."""
    return Value(-_signal(h, e, "smoothness_weight"))


@_measure("power of the servos, body weight × m/s", ".2f")
def power(h: History, e: Evaluation) -> Value:
    """Mean mechanical power in units of body weight times 1 m/s, from the reward term ``energy_penalty``."""
    return Value(-_signal(h, e, "energy_penalty_weight"))


@_measure("sideways speed as a share of forward speed", ".0%")
def sideways_share(h: History, e: Evaluation) -> Value:
    """Speed across the heading as a share of the speed along it."""
    return Value(_share(e.metrics["lateral_speed_mean_mps"], e.metrics["forward_speed_mean_mps"]))


@_measure("slip of loaded feet as a share of forward speed", ".0%")
def slip_share(h: History, e: Evaluation) -> Value:
    """Speed of loaded feet as a share of the speed along the heading: 1 skates, 0 steps."""
    return Value(_share(e.metrics["gait.foot_slip_mps"], e.metrics["forward_speed_mean_mps"]))


@_measure("forward speed by that of the gate", ".2f")
def speed_over_gate(h: History, e: Evaluation) -> Value:
    """Forward speed as a multiple of ``curriculum.min_avg_forward_vel``."""
    asked = h.value("curriculum.min_avg_forward_vel")
    if not asked:
        raise NotMeasured("curriculum.min_avg_forward_vel is not set")
    return Value(e.metrics["forward_speed_mean_mps"] / asked)


@_measure("closeness of the effector to the target, 0 to 1", ".2f")
def closeness(h: History, e: Evaluation) -> Value:
    """Mean closeness to the target, 1 at it and 0.6 at 1 m, from the reward term of the effector's proximity."""
    key = h.event_key("effector_proximity_weight")
    if key is None:
        raise NotMeasured("the event has no effector_proximity_weight")
    return Value(_signal(h, e, key))


@_measure("discounted bonus by the discounted reward of staying", ".2f")
def bonus_dominance(h: History, e: Evaluation) -> Value:
    """The discounted bonus of the event by the discounted reward of never taking it: γ^H × bonus ÷ Σ γ^t × r.

    H is the mean time to the event; if it never happened, the time to the middle of the distance range at 1 m/s. r is
    the reward of a step without bonus, fall penalty and pay for coming closer, which staying does not earn.
    """
    bonus = h.event_key("bonus")
    if bonus is None:
        raise NotMeasured("the event has no bonus")
    gamma = h.value(f"{h.algo}.gamma")
    seconds = e.metrics.get("time_to_event_mean_s")
    if seconds is None:
        seconds = float(np.mean(h.value(f"env.{h.event_key('distance_range')}"))) / WALK
    steps = round(seconds / _dt(h))
    once = [h.event_key(role) for role in ("bonus", "approach_weight", "progress_weight")] + ["fall_penalty"]
    paid = sum(e.metrics.get(f"reward.{logged_name(key)}", 0.0) for key in once if key is not None)
    reward = (e.metrics["return_mean"] - paid) / e.metrics["length_mean"]
    longest = h.value("env.max_episode_steps")
    staying = reward * (longest if gamma == 1.0 else (1.0 - gamma**longest) / (1.0 - gamma))
    amount = h.value(f"env.{bonus}")
    taking = gamma**steps * amount
    how = f"{gamma:g}^{steps} × {amount:g} = {taking:.3g}; {reward:.3g} a step is worth {staying:.3g}"
    unbounded = math.inf if taking > 0.0 else 0.0
    return Value(taking / staying if staying > 0.0 else unbounded, how)


# All evaluations ------------------------------------------------------------------------------------------------------


@_measure("evaluations in a row that met the gate, at most", ".0f")
def gate_met(h: History, e: Evaluation) -> Value:
    """Most evaluations in a row that met the gate."""
    counts = [one.consecutive for one in h.evaluations if one.consecutive is not None]
    if not counts:
        raise NotMeasured("nobody counted the evaluations that met the gate")
    if all(h.value(f"curriculum.{key}") is None for key in THRESHOLDS):
        raise NotMeasured("the gate has no threshold")
    return Value(float(max(counts)))


@_measure("growth of the return over the last third", ".1%")
def growth(h: History, e: Evaluation) -> Value:
    """Growth of the return over the last third of the evaluations, by a straight line; share of the largest return."""
    if len(h.evaluations) < CURVE:
        raise NotMeasured(f"it takes {CURVE} evaluations to see a trend, and there are {len(h.evaluations)}")
    returns = np.asarray([one.metrics["return_mean"] for one in h.evaluations])
    last = returns[-max(CURVE // 2, returns.size // 3) :]
    slope = float(np.polyfit(np.arange(last.size), last, 1)[0])
    how = f"{last[0]:.0f} at {h.evaluations[-last.size].steps:,} steps, {last[-1]:.0f} at {h.evaluations[-1].steps:,}"
    return Value(slope * (last.size - 1) / max(float(np.abs(returns).max()), 1e-9), how)


@_measure("success lost since its highest", ".0%")
def lost_success(h: History, e: Evaluation) -> Value:
    """Highest success rate of all evaluations, less that of the last."""
    rates = [one.metrics["success_rate"] for one in h.evaluations]
    best = int(np.argmax(rates))
    how = f"{rates[best]:.0%} at {h.evaluations[best].steps:,} steps, {rates[-1]:.0%} at {h.evaluations[-1].steps:,}"
    return Value(rates[best] - rates[-1], how)


# The config -----------------------------------------------------------------------------------------------------------


@_measure("learning rate by the textbook's", ".2f")
def learning_rate_ratio(h: History, e: Evaluation) -> Value:
    """Learning rate as a multiple of the textbook's 3e-4, scaled by the square root of the minibatch.

    The textbook's minibatches have 64 samples (PPO) or 256 (SAC). The scaling is that of Malladi et al. 2022, "On the
    SDEs and Scaling Rules for Adaptive Gradient Algorithms".
    """
    if h.algo not in TEXTBOOK_BATCH:
        raise NotMeasured(f"no textbook rate of {h.algo} is known")
    rate, batch = h.value(f"{h.algo}.learning_rate"), h.value(f"{h.algo}.batch_size")
    scaled = TEXTBOOK_RATE * math.sqrt(batch / TEXTBOOK_BATCH[h.algo])
    return Value(rate / scaled, f"{rate:g}; the textbook's is {scaled:.2g} for minibatches of {batch}")


@_measure("samples of a rollout left over by its minibatches", ".0f")
def left_over_samples(h: History, e: Evaluation) -> Value:
    """Samples of PPO's rollout, ``ppo.n_steps`` × ``sim.n_envs``, that ``ppo.batch_size`` leaves over."""
    rollout, batch = h.value("ppo.n_steps") * h.value("sim.n_envs"), h.value("ppo.batch_size")
    return Value(float(rollout % batch), f"{rollout} in minibatches of {batch}")


@_measure("clip range", ".2f")
def clip_range(h: History, e: Evaluation) -> Value:
    """PPO's clip range at the start of the stage."""
    return Value(float(h.value("ppo.clip_range")))


@_measure("entropy coefficient that is not tuned", ".3g")
def fixed_entropy(h: History, e: Evaluation) -> Value:
    """SAC's entropy coefficient if it is a number; 0 if SAC tunes it."""
    given = h.value("sac.ent_coef")
    return Value(0.0 if isinstance(given, str) else float(given))


@_measure("samples learned from for each that is gathered", ".3g")
def replay(h: History, e: Evaluation) -> Value:
    """Samples that SAC learns from for each gathered: gradient steps × batch size ÷ (train_freq × animals)."""
    steps, batch = h.value("sac.gradient_steps"), h.value("sac.batch_size")
    every, animals = h.value("sac.train_freq"), h.value("sim.n_envs")
    return Value(steps * batch / (every * animals), f"{steps} × {batch} ÷ ({every} × {animals})")


@_measure("replay buffer as a share of the stage", ".1%")
def buffer_share(h: History, e: Evaluation) -> Value:
    """Size of SAC's replay buffer as a share of ``curriculum.timesteps``."""
    size, budget = h.value("sac.buffer_size"), h.value("curriculum.timesteps")
    return Value(size / budget, f"{size:,} of {budget:,}")


# Runs that differ in their seeds --------------------------------------------------------------------------------------


def seed_spread(runs: Sequence[History]) -> Value:
    """Range of the kept returns over seeds, as a share of the largest."""
    returns = {run.seed: run.kept.metrics["return_mean"] for run in runs}
    spread = (max(returns.values()) - min(returns.values())) / max(map(abs, returns.values()))
    return Value(spread, ", ".join(f"seed {seed}: {value:.0f}" for seed, value in sorted(returns.items())))


MEASURES["seed_spread"] = Measure(
    "seed_spread", "spread of the return over seeds", ".1%", of_seeds=seed_spread, documented=seed_spread
)


# ----------------------------------------------------------------------------------------------------------------------


def _dt(h: History) -> float:
    """Return the control step, s."""
    return float(h.value("sim.timestep") * h.value("sim.frame_skip"))


def _signal(h: History, e: Evaluation, weight: str) -> float:
    """Return the mean of a reward term's signal over control steps: its episode sum ÷ weight ÷ length."""
    scale, term = h.value(f"env.{weight}"), f"reward.{logged_name(weight)}"
    if not scale:
        raise NotMeasured(f"env.{weight} is 0, so the evaluation has no {term}")
    if term not in e.metrics:
        raise NotMeasured(f"the evaluation has no {term}")
    return float(e.metrics[term] / (scale * e.metrics["length_mean"]))


def _share(part: float, whole: float) -> float:
    return part / max(abs(whole), 1e-9)
