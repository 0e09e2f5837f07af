"""The README's table of results, made from finished runs.

Every number comes from MLflow, a run folder, or an evaluation of 200 episodes on held-out seeds, which neither training
nor the choice of the best bundle uses.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinorl.bundle.bundle import Bundle
from dinorl.config import ConfigError
from dinorl.files.run_folder import RunFolder, read_status, write_json
from dinorl.reports.evaluation import evaluate
from dinorl.tracking import describe
from dinorl.tracking.database import Row
from dinorl.tracking.runs import finished_runs, folders
from dinorl.tracking.store import FOLDER_TAG

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
HEADER = (
    "animal", "stage", "algorithm", "seeds passed", "gate passed at", "minutes", "return", "falls (at most)",
    "speed, m/s", "success (at least)", "strides/s", "alternation", "gait", "doing nothing", "at random",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One finished stage run."""

    species: str
    stage: str  # the third: its event
    index: int
    algo: str
    seed: int
    threads: int  # 0: all cores
    status: dict[str, Any]  # of status.json
    evaluation: dict[str, Any]  # of evaluate()


def collect(sweep: str | None = None, uri: str | None = None) -> list[Result]:
    """Return the newest finished run of each animal, stage, algorithm and seed, with its evaluation.

    Args:
        sweep: only runs of this sweep.
        uri: of the MLflow server; default: the embedded store.
    """
    newest: dict[tuple[str, str, str, str], Row] = {}
    for run in finished_runs(sweep, uri):
        tags = run.tags
        newest.setdefault((tags["species"], tags["stage"], tags["algo"], tags["seed"]), run)
    found, here = [], folders()
    for run in newest.values():
        folder = here.get(run.run_id, Path(run.tags[FOLDER_TAG]))
        status = read_status(folder)
        if status is None or status["status"] != "DONE":
            continue  # folder gone or reused
        found.append(_result(folder, status))
    return sorted(found, key=lambda r: (r.species, r.index, r.algo, r.seed))


def _result(folder: Path, status: dict[str, Any]) -> Result:
    """Evaluate a run's best bundle, unless that is done."""
    bundle, measured = Bundle.open(folder), RunFolder(folder).evaluation
    if not measured.exists() or measured.stat().st_mtime < bundle.files.meta.stat().st_mtime:  # outdated
        write_json(measured, evaluate(bundle))
    cfg = bundle.config
    return Result(
        cfg.species.title,
        cfg.stage_label.replace("_", " "),
        cfg.stage.index,
        cfg.algo.name,
        cfg.seed,
        cfg.sim.threads,
        status,
        json.loads(measured.read_text(encoding="utf-8")),
    )


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return the table's rows, one per animal, stage and algorithm. Numbers are means over seeds."""
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
    """Return the mean steps of runs that passed the gate and of those that did not."""
    parts = []
    for passed, form in ((True, "{:.2f} M"), (False, "not in {:.2f} M")):
        if some := [r.status["timesteps"] for r in group if (r.status["gate"] == "passed") == passed]:
            parts.append(form.format(statistics.fmean(some) / 1e6))
    return ", ".join(parts)


def _minutes(group: Sequence[Result]) -> str:
    """Return the mean wall minutes of runs on all cores; if none, of the others, with their threads."""
    whole = [result for result in group if result.threads == 0]
    minutes = statistics.fmean(result.status["seconds"] for result in whole or group) / 60.0
    return f"{minutes:.1f}" if whole else f"{minutes:.1f} ({max(result.threads for result in group)} thread)"


def _dig(tree: Any, path: Sequence[str]) -> float:
    for name in path:
        tree = tree[name]
    return float("nan") if tree is None else float(tree)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table below :data:`HEADER`."""
    return describe.table(HEADER, table)


def merged(table: str, measured: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return an earlier table's rows, updated with new rows.

    Args:
        table: Markdown; its rows are kept only under the same :data:`HEADER`.
        measured: new rows; animal, stage and algorithm identify a row.
    """
    lines = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in table.strip().splitlines()]
    kept = lines[2:] if lines and lines[0] == HEADER else []
    found = {row[:3]: row for row in (*kept, *measured)}
    order = {"balance": 0, "locomotion": 1}  # others: events
    return sorted(found.values(), key=lambda row: (row[0], order.get(row[1], 2), row[2]))


def rewrite(readme: Path, measured: Sequence[tuple[str, ...]]) -> str:
    """Update rows in the table between a README's two markers; other rows stay.

    Returns:
        The table.

    Raises:
        ConfigError: the README has no markers.
    """
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ConfigError(f"{readme}: expected the lines {BEGIN} and {END}, between which the table goes")
    head, rest = text.split(BEGIN, 1)
    before, tail = rest.split(END, 1)
    table = markdown(merged(before, measured))
    readme.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")
    return table
