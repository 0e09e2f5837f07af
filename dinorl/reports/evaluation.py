"""Measures a policy and both null policies (zero and random actions) on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.player import load_player
from dinorl.evaluation import gait
from dinorl.evaluation.evaluator import Evaluator
from dinorl.reports import EPISODES, SEED

# metric, title, format
ROWS = (
    ("return_mean", "return", ".1f"),
    ("return_std", "  standard deviation", ".1f"),
    ("length_mean", "length, control steps", ".0f"),
    ("fall_rate", "falls", ".1%"),
    ("full_episodes_lcb95", "  without a fall, at least (95 %)", ".1%"),
    ("success_rate", "success", ".1%"),
    ("success_lcb95", "  at least (95 %)", ".1%"),
    ("time_to_event_mean_s", "  after, s", ".2f"),
    ("forward_speed_mean_mps", "forward speed, m/s", ".2f"),
    ("lateral_speed_mean_mps", "sideways speed, m/s", ".2f"),
    ("approach_speed_mean_mps", "speed towards the target, m/s", ".2f"),
    ("distance_mean_m", "distance, m", ".1f"),
    ("gait.name", "gait", "s"),
    ("gait.alternation", "  alternation", ".1%"),
    ("gait.stride_hz", "  strides per second of a leg", ".2f"),
    ("gait.duty_factor", "  duty factor", ".2f"),
    ("gait.flight_fraction", "  in flight", ".1%"),
    ("gait.phase_stability", "  stability of the phases", ".2f"),
    ("gait.foot_slip_mps", "  slip of loaded feet, m/s", ".2f"),
    ("trunk.pitch_deg", "trunk pitch off its natural one, degrees", ".1f"),
    ("trunk.roll_deg", "trunk roll, degrees", ".1f"),
    ("cost_of_transport", "cost of transport", ".2f"),
)


def evaluate(
    bundle: Bundle, episodes: int = EPISODES, seed: int = SEED, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Play a bundle's policy and both null policies.

    Args:
        bundle: its policy is measured.
        episodes: how many, all in parallel.
        seed: of the first episode; episode ``i`` has ``seed + i``.
        overrides: ``env.*`` values that differ from training, in Hydra's grammar.

    Returns:
        The metrics; dotted names are nested (``gait``, ``trunk``, ``reward_share``). ``null`` has the same metrics of
        ``zero`` and ``random``. Missing values, such as the time to an event that never happened, are None.

    Raises:
        ConfigError: an override does not fit.
    """
    cfg = bundle.config_with(overrides)
    evaluator = Evaluator(cfg, episodes, seed)
    metrics = {"policy": evaluator.run(load_player(bundle)), **evaluator.null_policies()}
    report = {name: _nested(values) for name, values in metrics.items()}
    named = {"event": None if cfg.stage_label == cfg.stage.name else cfg.stage_label}
    head = {"bundle": str(bundle), "species": cfg.species.name, "stage": cfg.stage.name, **named, "algo": cfg.algo.name}
    return head | {"overrides": list(overrides), "seed": seed} | report.pop("policy") | {"null": report}


def table(report: Mapping[str, Any]) -> Table:
    """Return a report of :func:`evaluate` as a table."""
    title = f"{report['species']} {report['event'] or report['stage']} ({report['algo']})"
    shown = Table(
        title=f"{title}: {report['episodes']} episodes, "
        f"seeds {report['seed']}…{report['seed'] + report['episodes'] - 1}",
        title_justify="left",
    )
    shown.add_column("")
    for name in ("policy", "doing nothing", "at random"):
        shown.add_column(name, justify="right")
    columns = (report, report["null"]["zero"], report["null"]["random"])
    for key, row, form in ROWS:
        shown.add_row(row, *(_cell(column, key, form) for column in columns))
    shown.add_section()
    for term in report["reward_share"]:
        shown.add_row(f"reward share: {term}", *(f"{column['reward_share'][term]:+.1%}" for column in columns))
    return shown


def _nested(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Nest dotted names, convert reward sums to shares of their absolute total, add the gait's name."""
    report: dict[str, Any] = {"reward_share": {}}
    paid = sum(abs(value) for key, value in metrics.items() if key.startswith("reward.")) or 1.0
    for key, value in metrics.items():
        first, _, rest = key.partition(".")
        known = float(value) if math.isfinite(value) else None
        if first == "reward":
            report["reward_share"][rest] = value / paid
        elif rest:
            report.setdefault(first, {})[rest] = known
        else:
            report[key] = int(value) if key == "episodes" else known
    report["gait"]["name"] = gait.name(report["gait"])
    return report


def _cell(column: Mapping[str, Any], key: str, form: str) -> str:
    first, _, rest = key.partition(".")
    value = column[first][rest] if rest else column[first]
    return "–" if value is None else f"{value:{form}}"
