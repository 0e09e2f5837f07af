"""What the MLflow run of a lineage shows: its parameters, and numbers, gate and film of its stages.

Entries of its spool are the same whenever they are made, so none is sent twice.
"""

from __future__ import annotations

import csv
import json
import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dinorl.config import Config
from dinorl.config.secrets import hide
from dinorl.evaluation.metrics import Metric
from dinorl.files.run_folder import LineageFiles, RunFolder, write_json
from dinorl.sweep.plan import Job, Lineage
from dinorl.tracking.describe import GROUPS, NOTE, SHOWN, acting, shown, table, value

WHOLE = "0-curriculum"  # section of what all stages share; stages have 1-balance, …
PASSED = "passed"
_TABLES = "mlflow.loggedArtifacts"  # tag that lists a run's tables
_DIGITS = 4  # of the numbers in MLflow's table of runs; the stages' runs have all

# Of MLflow's table of lineages, as dinorl ui shows it.
COLUMNS = (
    ("metrics", f"{WHOLE}/gates_passed"), ("metrics", f"{WHOLE}/minutes"), ("metrics", "1-balance/fall_rate"),
    ("metrics", "2-locomotion/forward_speed_mean_mps"), ("metrics", "3-behavior/return_mean"),
    ("metrics", "3-behavior/success_rate"), ("tags", "sweep"), ("tags", "gate.1-balance"),
    ("tags", "gate.2-locomotion"), ("tags", "gate.3-behavior"),
)  # fmt: skip

States = Mapping[str, Mapping[str, Any]]


def section(job: Job) -> str:
    """Return the prefix of a stage's metrics, the same for all animals: ``3-behavior``."""
    return f"{job.index}-{job.stage}"


def gate_tag(job: Job) -> str:
    """Return the tag with a stage's gate."""
    return f"gate.{section(job)}"


def parameters(lineage: Lineage) -> dict[str, str]:
    """Return the parameters that tell lineages apart.

    These are animal, algorithm, seed, what was typed, the options of the algorithm and of the simulation, and the
    budgets. A key whose value differs between stages has the stage's number: ``2.ppo.learning_rate``.
    """
    first = lineage.jobs[0].config
    found = {"species": first.species.name, "algo": first.algo.name, "seed": str(first.seed)}
    typed = dict(override.lstrip("+~").partition("=")[::2] for job in lineage.jobs for override in job.overrides)
    found |= {key: text for key, text in typed.items() if key in GROUPS}
    values = {job.index: acting(job.config) for job in lineage.jobs}
    heads = (f"{first.algo.name}.", "sim.", "curriculum.timesteps", *(key for key in typed if "." in key), "warm_start")
    for key in dict.fromkeys(key for own in values.values() for key in own if key.startswith(heads)):
        different = {str(own.get(key)) for own in values.values()}
        if len(different) == 1:
            found[key] = different.pop()
        else:
            found |= {f"{index}.{key}": str(own[key]) for index, own in values.items() if key in own}
    return found


def entries(lineage: Lineage, states: States, folder: Path, command: str) -> list[dict[str, Any]]:
    """Return what the lineage's run is sent of its stages that are over, as entries of its spool.

    Args:
        lineage: to show.
        states: of the jobs that are over, by key.
        folder: of the sweep.
        command: that made it.
    """
    home = folder / lineage.name
    found: list[dict[str, Any]] = []
    tags = {NOTE: note(lineage, states, command)}
    over = [job for job in lineage.jobs if job.key in states]
    steps = 0
    for job in over:
        state = states[job.key]
        tags[gate_tag(job)] = _gate(state)
        if not state.get("evaluation"):
            continue
        found += _curves(home / section(job), steps, _ended(state))
        steps += int(state["timesteps"])
        found.append({"metrics": _numbers(job, state), "step": 0, "time": _ended(state)})
    measured = [states[job.key] for job in over if states[job.key].get("evaluation")]
    if measured:
        whole = {
            "gates_passed": sum(state["gate"] == PASSED for state in measured), "steps": steps,
            "minutes": sum(_minutes(state) for state in measured),
        }  # fmt: skip
        numbers = {f"{WHOLE}/{name}": _rounded(number) for name, number in whole.items()}
        found.append({"metrics": numbers, "step": 0, "time": _ended(measured[-1])})
        write_json(LineageFiles(home).stages, _stages(lineage, states))
        tags[_TABLES] = json.dumps([{"path": LineageFiles.stages.name, "type": "table"}])
        # the number of stages makes it another entry, which is sent again
        found.append({"artifact": LineageFiles.stages.name, "folder": None, "stages": len(measured)})
    if len(over) == len(lineage.jobs) and RunFolder(home / section(over[-1])).video.exists():
        found.append({"artifact": f"{section(over[-1])}/{RunFolder.video.name}", "folder": None})
    return [*found, {"tags": tags}]


def note(lineage: Lineage, states: States, command: str) -> str:
    """Return the note of a lineage's run, in Markdown."""
    config, over = lineage.jobs[0].config, [states[job.key] for job in lineage.jobs if job.key in states]
    passed, minutes = sum(state.get("gate") == PASSED for state in over), sum(map(_minutes, over))
    head = ["stage", "gate", "steps", "minutes", *(metric.title for metric in _columns())]
    rows = [[job.title, *_cells(job, states.get(job.key))] for job in lineage.jobs]
    return (
        f"**{_title(config)}**: {passed} of {len(lineage.jobs)} gates passed, {minutes:.1f} minutes\n\n"
        f"{table(head, rows)}\n\n```sh\n{command}\n```\n"
    )


def _title(config: Config) -> str:
    return f"{config.species.title}, {config.algo.name.upper()}, seed {config.seed}"


def _columns() -> list[Metric]:
    return shown(max(SHOWN.values()))


def _cells(job: Job, state: Mapping[str, Any] | None) -> list[str]:
    """Return a stage's row: gate, steps, minutes, and the metrics that matter in it."""
    if state is None:
        return ["–"] * (3 + len(SHOWN))
    if not state.get("evaluation"):
        return [_gate(state), *["–"] * (2 + len(SHOWN))]
    matter = shown(job.index)
    numbers = [value(metric, state["evaluation"]) if metric in matter else "" for metric in _columns()]
    return [str(state["gate"]), f"{state['timesteps']:,}", f"{_minutes(state):.1f}", *numbers]


def _stages(lineage: Lineage, states: States) -> dict[str, Any]:
    """Return the stages as MLflow's tables are; ``result`` has all in a line, to compare lineages by."""
    columns = ["stage", "result", "gate", "steps", "minutes", *(metric.name for metric in _columns())]
    rows = []
    for job in (job for job in lineage.jobs if job.key in states):
        cells = _cells(job, states[job.key])
        texts = [
            f"{cell} {metric.unit}" if metric.unit else f"{metric.title} {cell}"
            for metric, cell in zip(_columns(), cells[3:], strict=True) if cell
        ]  # fmt: skip
        rows.append([section(job), f"{cells[0]}, {cells[1]} steps, {cells[2]} minutes: {', '.join(texts)}", *cells])
    return {"columns": columns, "data": rows}


def _numbers(job: Job, state: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a stage's kept bundle."""
    evaluation = state["evaluation"]
    found = {metric.name: evaluation.get(metric.name) for metric in shown(job.index)}
    found["minutes"] = _minutes(state)
    if state["gate"] == PASSED:
        found["gate_steps"] = state["timesteps"]
    return {f"{section(job)}/{name}": _rounded(found[name]) for name in found if _finite(found[name])}


def _curves(run_dir: Path, before: int, moment: int) -> Iterator[dict[str, Any]]:
    """Yield a stage's evaluations, over the environment steps of the whole curriculum."""
    try:
        with RunFolder(run_dir).eval_csv.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["policy"] == "policy"]
    except OSError:  # it ran elsewhere, and its files did not come back
        return
    for row in rows:
        numbers = {name: float(row[name]) for name in SHOWN if row.get(name)}
        finite = {f"{WHOLE}/{name}": _rounded(number) for name, number in numbers.items() if _finite(number)}
        yield {"metrics": finite, "step": before + int(row["timesteps"]), "time": moment}


def _gate(state: Mapping[str, Any]) -> str:
    """Return a stage's verdict, or how it ended without one."""
    gate = str(state.get("gate", "none"))
    return gate if gate != "none" else str(state.get("status", "")).lower()


def _minutes(state: Mapping[str, Any]) -> float:
    return float(state.get("seconds") or 0.0) / 60.0


def _ended(state: Mapping[str, Any]) -> int:
    """Return when a stage ended, MLflow's timestamp, ms."""
    try:
        begun = datetime.fromisoformat(state["started"]).timestamp()
        return round(1000.0 * (begun + float(state["wall_s"])))
    except (KeyError, ValueError, TypeError):
        return round(1000.0 * time.time())


def _finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


def _rounded(number: float) -> float:
    return float(number if isinstance(number, int) else f"{number:.{_DIGITS}g}")


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as typed, without passwords."""
    return hide(shlex.join(["dinorl", *arguments]))
