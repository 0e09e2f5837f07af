"""What MLflow shows of a run beside its numbers: standard tags, parameters, notes in Markdown."""

from __future__ import annotations

import getpass
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dinorl.config import ALGORITHMS, Config, flatten
from dinorl.evaluation.metrics import METRICS, Metric
from dinorl.files.provenance import git_sha
from dinorl.files.run_folder import RunFolder

NOTE = "mlflow.note.content"  # tag with the description
# What a person looks at first, and the first stage where it matters.
SHOWN = {"return_mean": 1, "fall_rate": 1, "forward_speed_mean_mps": 2, "success_rate": 3}
GROUPS = ("recipe", "experiment")  # of configs; their options are tags
# Keys that do not change what a job does.
_IDLE = ("tracking", "plan_only", "resume")


def source_tags() -> dict[str, str]:
    """Return MLflow's standard tags of who and what made a run."""
    tags = {"mlflow.source.name": "dinorl", "mlflow.source.type": "LOCAL", "mlflow.source.git.commit": git_sha() or ""}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (OSError, KeyError):  # an id without a name, in a container
        pass
    return {key: value for key, value in tags.items() if value}


def own_files() -> list[dict[str, Any]]:
    """Return a spool's entries of a run folder's log and config, which are whole when the run is over."""
    names = [(RunFolder.log.name, None), (RunFolder.hydra.name, RunFolder.hydra.name)]
    return [{"artifact": name, "folder": folder} for name, folder in names]


def acting(cfg: Config) -> dict[str, Any]:
    """Return the flattened config without what does not act, such as another algorithm's options."""
    return {key: value for key, value in flatten(cfg).items() if acts(key, cfg.algo.name)}


def acts(key: str, algo: str) -> bool:
    """Whether a key of the composed config can change what a job of an algorithm does."""
    return key.partition(".")[0] not in {*_IDLE, *ALGORITHMS} - {algo}


def shown(index: int) -> list[Metric]:
    """Return the metrics that a person looks at first, of the stage with this index."""
    return [metric for metric in METRICS if SHOWN.get(metric.name, math.inf) <= index]


def value(metric: Metric, metrics: Mapping[str, float | None]) -> str:
    """Return a metric's value as text; a dash if it was not measured."""
    number = metrics.get(metric.name)
    return "–" if number is None or math.isnan(number) else f"{number:{metric.form}}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def stage_note(
    cfg: Config, verdict: str, best: Mapping[str, float], null: Mapping[str, Mapping[str, float]], folder: Path
) -> str:
    """Return the note of a stage's run.

    Args:
        cfg: the composed config.
        verdict: such as ``passed after 100 steps in 0.1 minutes``.
        best: metrics of the best bundle.
        null: metrics of the null policies, ``{"zero": …, "random": …}``.
        folder: the run folder.
    """
    measured = [best, *(null.get(name, {}) for name in ("zero", "random"))]
    rows = [[metric.title, *(value(metric, one) for one in measured)] for metric in shown(cfg.stage.index)]
    numbers = table(["", "best bundle", "doing nothing", "at random"], rows)
    title = f"**{cfg.species.title}, {cfg.stage.index} {cfg.stage_label}, {cfg.algo.name.upper()}, seed {cfg.seed}**"
    return f"{title}: {verdict}\n\n{numbers}\n\n```sh\ndinorl play {shlex.quote(str(folder))}\n```\n"
