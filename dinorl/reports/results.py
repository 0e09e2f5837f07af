"""Rebuild the README's results table: ``python -m dinorl.results [--sweep NAME] [--readme README.md]``.

Every number comes from MLflow's finished stage runs, from their run folders and from an evaluation of 200 episodes on
seeds that neither training nor the choice of the best bundle has seen; none is written by hand.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinorl.config import ConfigError

EVALUATION = "evaluation.json"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
HEADER = (
    "animal", "stage", "algorithm", "seeds passed", "gate passed at", "minutes", "return", "falls (at most)",
    "speed, m/s", "success (at least)", "strides/s", "alternation", "gait", "doing nothing", "at random",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One finished stage run."""

    species: str
    stage: str  # as people call it
    index: int
    algo: str
    seed: int
    threads: int  # 0: every core
    status: dict[str, Any]  # of status.json
    evaluation: dict[str, Any]  # of dinorl.evaluate


def collect(sweep: str | None = None, uri: str | None = None) -> list[Result]:
    """Return the newest finished run of every animal, stage, algorithm and seed, evaluated.

    Args:
        sweep: only runs of this sweep.
        uri: of the MLflow server; default the embedded store.
    """
    from dinorl.files.run_folder import read_status
    from dinorl.tracking.runs import finished_runs
    from dinorl.tracking.store import FOLDER_TAG

    newest: dict[tuple[str, str, str, str], Any] = {}
    for run in finished_runs(sweep, uri):
        tags = run.data.tags
        newest.setdefault((tags["species"], tags["stage"], tags["algo"], tags["seed"]), run)
    found = []
    for run in newest.values():
        folder = Path(run.data.tags[FOLDER_TAG])
        status = read_status(folder)
        if status is None or status["status"] != "DONE":
            continue  # its folder is gone, or another run's by now: it cannot be measured any more
        found.append(_result(folder, status))
    return sorted(found, key=lambda r: (r.species, r.index, r.algo, r.seed))


def _result(folder: Path, status: dict[str, Any]) -> Result:
    from dinorl.bundle import bundle
    from dinorl.bundle.locate import resolve
    from dinorl.files.run_folder import META
    from dinorl.reports.evaluation import evaluate

    source = resolve(folder)
    measured = folder / EVALUATION
    if not measured.exists() or measured.stat().st_mtime < (source / META).stat().st_mtime:  # of an earlier attempt
        measured.write_text(json.dumps(evaluate(source), indent=1) + "\n")
    cfg = bundle.load_config(source)
    stage = cfg.species.event.name.replace("_", " ") if cfg.stage.name == "behavior" else cfg.stage.name
    return Result(
        cfg.species.title,
        stage,
        cfg.stage.index,
        cfg.algo.name,
        cfg.seed,
        cfg.sim.threads,
        status,
        json.loads(measured.read_text()),
    )


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return the table's rows, one for each animal, stage and algorithm; numbers are means over the seeds."""
    grouped: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        grouped[result.species, result.stage, result.algo].append(result)
    return [_row(key, group) for key, group in grouped.items()]


def _row(key: tuple[str, str, str], group: Sequence[Result]) -> tuple[str, ...]:
    def mean(*path: str) -> float:
        return statistics.fmean(_dig(result.evaluation, path) for result in group)

    moves, acts = group[0].index >= 2, group[0].index == 3
    passed = sum(result.status["gate"] == "passed" for result in group)
    nulls = [
        f"{mean('null', name, 'success_rate'):.0%} success"
        if acts
        else f"{mean('null', name, 'forward_speed_mean_mps'):.1f} m/s"
        if moves
        else f"{mean('null', name, 'fall_rate'):.0%} falls"
        for name in ("zero", "random")
    ]
    return (
        *key[:2],
        key[2].upper(),
        f"{passed} of {len(group)} ({', '.join(str(result.seed) for result in group)})",
        _steps(group),
        _minutes(group),
        f"{mean('return_mean'):.0f}",
        f"{mean('fall_rate'):.1%} ({1.0 - min(_dig(r.evaluation, ('full_episodes_lcb95',)) for r in group):.1%})",
        f"{mean('forward_speed_mean_mps'):.2f}" if moves else "",
        f"{mean('success_rate'):.1%} ({min(_dig(r.evaluation, ('success_lcb95',)) for r in group):.1%})"
        if acts
        else "",
        f"{mean('gait', 'stride_hz'):.1f}" if moves else "",
        f"{mean('gait', 'alternation'):.2f}" if moves else "",
        " or ".join(sorted({result.evaluation["gait"]["name"] for result in group})) if moves else "",
        *nulls,
    )


def _steps(group: Sequence[Result]) -> str:
    """Return the mean of the steps at which the gate was passed, and of the budgets in which it was not."""
    parts = []
    for passed, form in ((True, "{:.2f} M"), (False, "not in {:.2f} M")):
        if some := [r.status["timesteps"] for r in group if (r.status["gate"] == "passed") == passed]:
            parts.append(form.format(statistics.fmean(some) / 1e6))
    return ", ".join(parts)


def _minutes(group: Sequence[Result]) -> str:
    """Return the mean wall minutes of the runs that had every core; where there are none, of the others, and say so."""
    whole = [result for result in group if result.threads == 0]
    minutes = statistics.fmean(result.status["seconds"] for result in whole or group) / 60.0
    return f"{minutes:.1f}" if whole else f"{minutes:.1f} ({max(result.threads for result in group)} thread)"


def _dig(tree: Any, path: Sequence[str]) -> float:
    for name in path:
        tree = tree[name]
    return float("nan") if tree is None else float(tree)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table below :data:`HEADER`."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in table)])


def merged(table: str, measured: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the rows of an earlier table with those that were measured now in place of their own.

    Args:
        table: Markdown; of another :data:`HEADER` nothing is kept.
        measured: rows; animal, stage and algorithm say which is which.
    """
    lines = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in table.strip().splitlines()]
    kept = lines[2:] if lines and lines[0] == HEADER else []
    found = {row[:3]: row for row in (*kept, *measured)}
    order = {"balance": 0, "locomotion": 1}  # and then what the species calls its third stage
    return sorted(found.values(), key=lambda row: (row[0], order.get(row[1], 2), row[2]))


def rewrite(readme: Path, measured: Sequence[tuple[str, ...]]) -> str:
    """Put measured rows into the table between the two markers of a README; rows of what was not measured stay.

    Returns:
        The table.

    Raises:
        ConfigError: it has no markers.
    """
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise ConfigError(f"{readme}: expected the lines {BEGIN} and {END}, between which the table goes")
    head, rest = text.split(BEGIN, 1)
    before, tail = rest.split(END, 1)
    table = markdown(merged(before, measured))
    readme.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")
    return table


def main(arguments: list[str] | None = None) -> int:
    """Collect, print and write; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dinorl.reports.results", description="Rebuild the table of results."
    )
    parser.add_argument("--sweep", help="only runs of this sweep (default: the newest of all)")
    parser.add_argument("--uri", help="MLflow server (default: the embedded store)")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    try:
        found = collect(chosen.sweep, chosen.uri)
        if not found:
            raise ConfigError("found no finished run: train first, for example with make results SPECIES=trex SEED=0")
        table = rewrite(chosen.readme, rows(found))
    except (ConfigError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
