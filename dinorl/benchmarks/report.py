"""Measures dinorl's speed on this machine.

For each animal, in one run:

* environment steps per second of the batch, also on MuJoCo Warp if that is installed, of plain ``mj_step`` loops (the
  limit), of one ``DinoEnv``, and of a plain one-animal ``MujocoEnv`` in Stable-Baselines3's vectorised environments;
* training steps per second with our defaults and with reference settings, and on a GPU if there is one;
* one real stage.

Contenders take turns in short rounds, so that other load affects all of them. Medians count.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable
from typing import Any

from joblib import cpu_count
from rich.table import Table

from dinorl.benchmarks.environment import Contender, environment_contenders
from dinorl.benchmarks.stage import stage_metrics
from dinorl.benchmarks.training import training_contenders
from dinorl.config import compose

ROWS = {
    "env": {
        "batch": "batch",
        "warp": "batch on MuJoCo Warp",
        "limit": "limit: mj_step loops",
        "one": "one DinoEnv, DummyVecEnv(1)",
        "plain": "plain MujocoEnv, DummyVecEnv(1)",
        "dummy": "plain MujocoEnv, DummyVecEnv(4)",
        "subproc": "plain MujocoEnv, SubprocVecEnv(4)",
    },
    "train": {
        "ppo": "PPO",
        "ppo_cuda": "PPO, learning on the GPU",
        "ppo_gpu": "PPO, experiment=gpu",
        "ppo_reference": "PPO, reference settings",
        "sac": "SAC",
    },
}
# Promises on two cores.
CHECKS: list[tuple[str, Callable[[dict[str, Any]], float], str, float]] = [
    ("batch / limit", lambda r: _ratio(r["env"], "batch", "limit"), ">=", 0.85),
    ("batch / SubprocVecEnv", lambda r: _ratio(r["env"], "batch", "subproc"), ">=", 2.5),
    ("PPO / PPO reference", lambda r: _ratio(r["train"], "ppo", "ppo_reference"), ">=", 7.0),
    ("seconds to the first training step", lambda r: r["startup_s"], "<=", 8.0),
    ("evaluation's share of a stage", lambda r: r["evaluation_share"], "<=", 0.10),
    ("tracking's share of a stage", lambda r: r["tracking_share"], "<=", 0.01),
]


def _ratio(rates: dict[str, float], one: str, other: str) -> float:
    return rates[f"{one}_steps_per_s"] / rates[f"{other}_steps_per_s"]


def median_rates(contenders: dict[str, Contender], rounds: int, seconds: float) -> dict[str, float]:
    """Return each contender's median steps per second over rounds of turns, and close them."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for _ in range(rounds):
            for name, contender in contenders.items():
                rates[name].append(contender.run(seconds))
    finally:
        for contender in contenders.values():
            contender.close()
    return {f"{name}_steps_per_s": round(statistics.median(values), 1) for name, values in rates.items()}


def measure(species: str, quick: bool = False, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measure one animal.

    Args:
        species: its name.
        quick: rough numbers in a fraction of the time.
        say: receives progress lines.

    Returns:
        ``env``, ``train`` (steps per second), ``startup_s``, ``evaluation_share``, ``tracking_share``.
    """
    rounds, seconds = (1, 0.5) if quick else (5, 1.5)
    stage = [f"species={species}", "stage=locomotion"]
    cfg, sac = compose([*stage, "algo=ppo"]), compose([*stage, "algo=sac"])
    say(f"{species}: environments")
    env = median_rates(environment_contenders(cfg), rounds, seconds)
    say(f"{species}: training")
    train = median_rates(training_contenders(cfg, sac), 1 if quick else 3, seconds)
    say(f"{species}: a stage")
    # two evaluations, the fewest for a gate
    wanted = round(5.0 * train["ppo_steps_per_s"]) if quick else 2 * cfg.eval.every
    return {"env": env, "train": train} | stage_metrics(cfg, min(cfg.curriculum.timesteps, wanted))


def table(results: dict[str, dict[str, Any]]) -> Table:
    """Return the numbers of :func:`measure`, by species, as a table."""
    shown = Table(title=f"{cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    shown.add_column("steps per second")
    for species in results:
        shown.add_column(species, justify="right")
    for part, titles in ROWS.items():
        for name, title in titles.items():
            rates = [r[part].get(f"{name}_steps_per_s") for r in results.values()]
            if None not in rates:  # measured by this version
                shown.add_row(title, *(f"{rate:,.0f}" for rate in rates))
        shown.add_section()
    for title, value, sign, bound in CHECKS:
        cells = []
        for result in results.values():
            number = value(result)
            holds = number >= bound if sign == ">=" else number <= bound
            cells.append(f"[{'green' if holds else 'red'}]{number:.3g}")
        shown.add_row(f"{title} ({sign} {bound:g})", *cells)
    return shown
