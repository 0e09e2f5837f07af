"""The metrics of an evaluation: name, unit, meaning, direction and computation.

``eval.csv``, MLflow, gates and reports use these names, in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dinorl.evaluation import gait
from dinorl.evaluation.recorder import Recorder

NAN = float("nan")
MOVES = 1.0  # m, least for a cost of transport


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: in eval.csv, MLflow and JSON.
        title: for people, with the unit.
        unit: SI; empty for numbers, counts and shares.
        meaning: one line.
        better: whether more or less is better; None: neither.
        form: format for people.
        compute: its value; None if the animal has no such metric, NaN if nothing was measured.
    """

    name: str
    title: str
    unit: str
    meaning: str
    better: Literal["up", "down"] | None
    form: str
    compute: Callable[[Recorder], float | None]


def clopper_pearson_lower(successes: int, trials: int, confidence: float = 0.95) -> float:
    """Return the one-sided lower bound of a success probability (Clopper & Pearson 1934)."""
    if successes == 0:
        return 0.0
    from scipy.special import betaincinv  # slow import; scipy.stats takes even longer

    return float(betaincinv(successes, trials - successes + 1, 1.0 - confidence))


def _successes(r: Recorder) -> int:
    return int(r.success.sum())


def _time_to_event(r: Recorder) -> float:
    return float(np.nanmean(r.event_step) * r.dt) if r.success.any() else NAN


def _cost_of_transport(r: Recorder) -> float:
    """Energy per weight and distance (Tucker 1975)."""
    path = r.distance.sum()
    return float(r.energy.sum() / (r.weight * path)) if path > MOVES else NAN


METRICS = (
    Metric("episodes", "episodes", "", "number of episodes", None, "d", lambda r: float(r.n)),
    Metric("return_mean", "return", "", "mean return", "up", ".1f", lambda r: float(r.returns.mean())),
    Metric("return_std", "standard deviation of the return", "", "its standard deviation over episodes", "down", ".1f",
           lambda r: float(r.returns.std())),
    Metric("length_mean", "length, control steps", "", "mean episode length in control steps", "up", ".0f",
           lambda r: float(r.steps.mean())),
    Metric("fall_rate", "falls", "", "share of episodes that end in a fall", "down", ".1%",
           lambda r: float(r.fell.mean())),
    Metric("full_episodes_lcb95", "without a fall, at least (95 %)", "",
           "lower 95 % bound of the probability of no fall (Clopper-Pearson)", "up", ".1%",
           lambda r: clopper_pearson_lower(r.n - int(r.fell.sum()), r.n)),
    Metric("success_rate", "success", "", "share of episodes with the event: strike, bite or reach", "up", ".1%",
           lambda r: _successes(r) / r.n),
    Metric("success_lcb95", "success, at least (95 %)", "",
           "lower 95 % bound of the success probability (Clopper-Pearson)", "up", ".1%",
           lambda r: clopper_pearson_lower(_successes(r), r.n)),
    Metric("forward_speed_mean_mps", "forward speed, m/s", "m/s", "mean speed along the heading", "up", ".2f",
           lambda r: float((r.forward / r.lengths).mean())),
    Metric("lateral_speed_mean_mps", "sideways speed, m/s", "m/s", "mean speed across the heading", "down", ".2f",
           lambda r: float((r.lateral / r.lengths).mean())),
    Metric("approach_speed_mean_mps", "speed towards the target, m/s", "m/s",
           "mean speed at which the distance to the target shrinks", "up", ".2f",
           lambda r: float((r.approach / r.lengths).mean())),
    Metric("distance_mean_m", "distance, m", "m", "mean path length of an episode", "up", ".1f",
           lambda r: float(r.distance.mean())),
    Metric("time_to_event_mean_s", "time to the event, s", "s", "mean time to the event, of episodes with one",
           "down", ".2f", _time_to_event),
    Metric("gait.alternation", "alternation", "", "share of touchdowns in turn with the pair's other foot", "up",
           ".1%", lambda r: gait.alternation(r.landed, r.pairs)),
    Metric("gait.duty_factor", "duty factor", "", "share of time that a foot is on the ground", None, ".2f",
           lambda r: float(r.contact.sum() / (r.total * r.contact.shape[2]))),
    Metric("gait.flight_fraction", "in flight", "", "share of time with no foot on the ground", None, ".1%",
           lambda r: float((r.going & ~r.contact.any(axis=2)).sum() / r.total)),
    Metric("gait.stride_hz", "strides per second of a leg", "Hz", "touchdowns of a foot per second", None, ".2f",
           lambda r: float((r.landed.sum(axis=0) / (r.lengths * r.dt)[:, None]).mean())),
    Metric("gait.foot_slip_mps", "slip of loaded feet, m/s", "m/s", "mean speed of feet on the ground", "down", ".2f",
           lambda r: float(r.slip.sum() / max(r.load.sum(), 1e-9))),
    Metric("gait.contralateral_phase", "phase of the right foot", "cycles",
           "when the right foot lands in the left foot's stride; of the hind feet, if there are four", None, ".2f",
           lambda r: r.phases.get("contralateral_phase")),
    Metric("gait.fore_phase", "phase of the right front foot", "cycles", "the same of the front feet", None, ".2f",
           lambda r: r.phases.get("fore_phase")),
    Metric("gait.ipsilateral_phase", "phase of the front foot", "cycles",
           "when a front foot lands in the stride of the hind foot on its side", None, ".2f",
           lambda r: r.phases.get("ipsilateral_phase")),
    Metric("gait.phase_stability", "stability of the phases", "",
           "mean resultant length of the least stable phase: 1 always the same, 0 any", "up", ".2f",
           lambda r: r.phases.get("phase_stability")),
    Metric("trunk.pitch_deg", "trunk pitch off its natural one, degrees", "deg",
           "mean pitch off the natural one, without sign", "down", ".1f",
           lambda r: float(np.degrees(r.pitch.sum() / r.total))),
    Metric("trunk.roll_deg", "trunk roll, degrees", "deg", "mean roll, without sign", "down", ".1f",
           lambda r: float(np.degrees(r.roll.sum() / r.total))),
    Metric("cost_of_transport", "cost of transport", "", "energy per weight and distance; NaN if it hardly moves",
           "down", ".2f", _cost_of_transport),
)  # fmt: skip


def measure(recorder: Recorder) -> dict[str, float]:
    """Return the metrics of all recorded episodes, by name."""
    values = {metric.name: metric.compute(recorder) for metric in METRICS}
    return {name: value for name, value in values.items() if value is not None}
