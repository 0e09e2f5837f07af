"""Measure a policy: ``python -m dinorl.evaluate BUNDLE [--episodes N] [--seed N] [--json FILE] [env.key=value …]``.

Every number stands beside those of the two null policies, doing nothing and acting at random, on the same seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dinorl.config import ConfigError

EPISODES, SEED = 200, 1000  # the seed is neither training's nor that of the evaluations which choose the best bundle

# What people see, in this order: metric, its title, its format.
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


def evaluate(source: Path, episodes: int = EPISODES, seed: int = SEED, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Play a bundle's policy and both null policies.

    Args:
        source: the bundle.
        episodes: how many, all in parallel.
        seed: of the first; episode ``i`` has ``seed + i``.
        overrides: other values of ``env.*`` than the bundle was trained with, in Hydra's grammar.

    Returns:
        The metrics, nested where their names have dots (``gait``, ``trunk``, ``reward_share``), and under ``null`` the
        same of ``zero`` and ``random``. What does not exist, such as the time to an event that never came, is None.

    Raises:
        ConfigError: an override does not fit.
    """
    from dinorl.bundle import bundle
    from dinorl.bundle.player import load_player
    from dinorl.evaluation.evaluator import Evaluator

    cfg = bundle.load_config(source, overrides)
    evaluator = Evaluator(cfg, episodes, seed)
    metrics = {"policy": evaluator.run(load_player(source)), **evaluator.null_policies()}
    report = {name: _nested(values) for name, values in metrics.items()}
    named = {"event": cfg.species.event.name if cfg.stage.name == "behavior" else None}
    head = {"bundle": str(source), "species": cfg.species.name, "stage": cfg.stage.name, **named, "algo": cfg.algo.name}
    return head | {"overrides": list(overrides), "seed": seed} | report.pop("policy") | {"null": report}


def table(report: Mapping[str, Any]) -> Any:
    """Return the report as a table for people."""
    from rich.table import Table

    name = f"{report['species']} {report['event'] or report['stage']} ({report['algo']})"
    shown = Table(
        title=f"{name}: {report['episodes']} episodes, "
        f"seeds {report['seed']}…{report['seed'] + report['episodes'] - 1}",
        title_justify="left",
    )
    shown.add_column("")
    for name in ("policy", "doing nothing", "at random"):
        shown.add_column(name, justify="right")
    columns = (report, report["null"]["zero"], report["null"]["random"])
    for key, title, form in ROWS:
        shown.add_row(title, *(_cell(column, key, form) for column in columns))
    shown.add_section()
    for term in report["reward_share"]:
        shown.add_row(f"reward share: {term}", *(f"{column['reward_share'][term]:+.1%}" for column in columns))
    return shown


def main(arguments: list[str] | None = None) -> int:
    """Evaluate a bundle; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dinorl.reports.evaluation", description="Measure a trained policy."
    )
    parser.add_argument("bundle", help="a bundle, a stage's run folder, an MLflow run id or a zoo name (trex/bite)")
    parser.add_argument("overrides", nargs="*", metavar="env.KEY=VALUE", help="evaluate under other conditions")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first episode, default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    chosen = parser.parse_intermixed_args(arguments)
    if chosen.episodes < 1 or chosen.seed < 0:
        parser.error(f"--episodes {chosen.episodes} --seed {chosen.seed}: expected 1 or more and 0 or more")
    from dinorl.bundle.locate import resolve
    from dinorl.reports.zoo import outdated
    from dinorl.tracking.terminal import console

    try:
        source = resolve(chosen.bundle)
        if why := outdated(source):
            print(f"{why}; these are today's", file=sys.stderr)
        report = evaluate(source, chosen.episodes, chosen.seed, chosen.overrides)
    except (ConfigError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    console().print(table(report))
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
        print(f"wrote {chosen.json}")
    return 0


def _nested(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return dotted names as nested ones, reward sums as shares of all that was paid and charged, and a gait's name."""
    from dinorl.evaluation import gait

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


if __name__ == "__main__":
    sys.exit(main())
