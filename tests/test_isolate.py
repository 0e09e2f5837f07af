"""A job in a process of its own: what it returns and raises comes back, and its end is nobody else's."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from dinorl.sweep.isolate import Apart, JobLost

CONFIG = OmegaConf.create({"seed": 3})


def gives(cfg: DictConfig) -> dict[str, Any]:
    return {"pid": os.getpid(), "seed": cfg.seed, "told": os.environ["DINORL_TOLD"], "cwd": os.getcwd()}


def raises(cfg: DictConfig) -> None:
    raise ValueError(f"seed {cfg.seed}")


def is_interrupted(cfg: DictConfig) -> None:
    raise KeyboardInterrupt("SIGTERM")


def ends(cfg: DictConfig) -> None:
    os._exit(7)


def is_killed(cfg: DictConfig) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_isolated_job_inherits_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for told in ("once", "again"):  # the server that jobs come from started with the first of them
        (tmp_path / told).mkdir()
        monkeypatch.chdir(tmp_path / told)
        monkeypatch.setenv("DINORL_TOLD", told)
        came = Apart(gives)(CONFIG)
        assert came == {"pid": came["pid"], "seed": 3, "told": told, "cwd": str(tmp_path / told)}
        assert came["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("task", "error", "words"),
    [
        (raises, ValueError, "seed 3"),
        (is_interrupted, KeyboardInterrupt, "SIGTERM"),
        (ends, JobLost, "ended itself with status 7"),
        (is_killed, JobLost, "ended by SIGKILL"),
    ],
)
def test_isolated_job_exit_reported(task: Any, error: type[BaseException], words: str) -> None:
    with pytest.raises(error, match=words):
        Apart(task)(CONFIG)
    assert multiprocessing.active_children() == []


def test_launcher_worker_runs_job_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINORL_TOLD", "")
    task = Apart(gives)
    task._command += 1  # as if it had come from another process
    assert task(CONFIG)["pid"] == os.getpid()
