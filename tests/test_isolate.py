"""A job in its own process: results and errors are returned, a crash affects nothing else."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from dinorl.sweep.isolate import JobError, JobLost, call, describe, prepare
from dinorl.sweep.workers import Picklable

CONFIG = OmegaConf.create({"seed": 3})


@pytest.fixture(autouse=True, scope="module")
def server() -> None:
    """Preload the fork server as commands do: it stays for the worker's later tests."""
    prepare()


class Unpicklable(Exception):
    """An error of a library that keeps a function."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.function = lambda: None  # no pickle holds one


class HalfPicklable(Exception):
    """Pickles, but asks for an argument when it is unpickled."""

    def __init__(self, file: str, line: int) -> None:
        super().__init__(f"{file}:{line}")


def succeed(cfg: DictConfig) -> dict[str, Any]:
    return {"pid": os.getpid(), "seed": cfg.seed, "word": os.environ["DINORL_WORD"], "cwd": os.getcwd()}


def fail(cfg: DictConfig) -> None:
    raise ValueError(f"seed {cfg.seed}")


def interrupt(cfg: DictConfig) -> None:
    raise KeyboardInterrupt("SIGTERM")


def leave(cfg: DictConfig) -> None:
    os._exit(7)


def be_killed(cfg: DictConfig) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_unpicklable(cfg: DictConfig) -> None:
    raise Unpicklable(f"seed {cfg.seed}")


def fail_half_picklable(cfg: DictConfig) -> None:
    raise HalfPicklable("trex.xml", cfg.seed)


def return_unpicklable(cfg: DictConfig) -> Any:
    return lambda: cfg


def test_isolated_job_inherits_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for word in ("once", "again"):  # the server is older
        (tmp_path / word).mkdir()
        monkeypatch.chdir(tmp_path / word)
        monkeypatch.setenv("DINORL_WORD", word)
        result = call(succeed, CONFIG)
        assert result == {"pid": result["pid"], "seed": 3, "word": word, "cwd": str(tmp_path / word)}
        assert result["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("task", "error", "words"),
    [
        (fail, ValueError, "seed 3"),
        (interrupt, KeyboardInterrupt, "SIGTERM"),
        (leave, JobLost, "ended itself with status 7"),
        (be_killed, JobLost, "ended by SIGKILL"),
        (return_unpicklable, Exception, "(?i)pickle"),
    ],
)
def test_isolated_job_exit_reported(task: Any, error: type[BaseException], words: str) -> None:
    with pytest.raises(error, match=words):
        call(task, CONFIG)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("task", "text"),
    [(fail_unpicklable, "Unpicklable: seed 3"), (fail_half_picklable, "HalfPicklable: trex.xml:3")],
)
def test_unpicklable_error_comes_back(task: Any, text: str) -> None:
    with pytest.raises(JobError) as found:
        call(task, CONFIG)
    assert describe(found.value) == text
    assert f"in {task.__name__}" in found.value.trace and found.value.trace.endswith(f"{text}\n")


def test_error_carries_remote_traceback() -> None:
    with pytest.raises(ValueError) as found:
        call(fail, CONFIG)
    assert f"in {fail.__name__}" in "".join(traceback.format_exception(found.value))


@pytest.mark.parametrize("task", [fail, fail_unpicklable, fail_half_picklable])
def test_launcher_worker_error_pickles(task: Any) -> None:
    with pytest.raises((ValueError, JobError)) as found:
        Picklable(task)(CONFIG)
    assert describe(pickle.loads(pickle.dumps(found.value))) == describe(found.value)
