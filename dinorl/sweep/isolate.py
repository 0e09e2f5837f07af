"""Runs a job in a process of its own, so that what ends that process ends nothing else.

What the command itself needs MLflow for runs in such a process too, where MLflow is imported already.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, env_override
from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf

from dinorl.files import provenance
from dinorl.tracking.store import SETTINGS

# A server that has imported what takes seconds, and has done nothing else, forks the jobs: they start at once, and
# inherit no lock, no thread and no open database of the command.
_CONTEXT = multiprocessing.get_context("forkserver")
# The last two are what MLflow and torch import only when they are first used.
_PRELOADED = [
    "dinorl.training.stage",
    "dinorl.tracking.tracker",
    "mlflow.store.tracking.sqlalchemy_store",
    "torch._dynamo",
]
T = TypeVar("T")
# How long a job may take to end that has said its last word, s.
_LAST = 2.0


def prepare() -> None:
    """Begin to import, in the background, what the jobs need."""
    from multiprocessing import forkserver

    # the server is to find what this process would, and not what lies in the folder where it happens to start
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    mlflow = {name: os.environ.get(name, value) for name, value in SETTINGS.items()}
    with env_override({"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", **mlflow}):
        _CONTEXT.set_forkserver_preload(_PRELOADED)
        forkserver.ensure_running()


class Apart:
    """A task function for any launcher: where one would run a job in the command's process, the job gets its own.

    Args:
        task: what is run, importable by its name.
    """

    def __init__(self, task: TaskFunction) -> None:
        self.task, self._command = task, os.getpid()

    def __call__(self, cfg: DictConfig) -> Any:
        """Run the job, wait for it, return what it returns.

        Raises:
            JobLost: its process ended without a word.
            BaseException: what the job raises.
        """
        if os.getpid() != self._command:  # in a launcher's worker
            return self.task(cfg)
        hydra: DictConfig | None = HydraConfig.instance().cfg  # type: ignore[assignment]  # what Hydra sets
        return call(self.task, cfg, hydra=hydra, logs=OmegaConf.select(hydra, "hydra.job_logging") if hydra else None)


def call(
    function: Callable[..., T], *arguments: Any, hydra: DictConfig | None = None, logs: DictConfig | None = None
) -> T:
    """Call a function in a process of its own, wait for it, return what it returns.

    Args:
        function: importable by its name.
        arguments: its; they are pickled.
        hydra: what the function finds as Hydra's config.
        logs: how it logs.

    Raises:
        JobLost: its process ended without a word.
        BaseException: what the function raises.
    """
    hears, says = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(
        target=_work,
        args=(says, function, arguments, hydra, logs, dict(os.environ), os.getcwd(), provenance.started()),
    )
    process.start()
    says.close()
    try:
        good, came = hears.recv()
    except EOFError:
        process.join()
        raise JobLost(_end(process.exitcode)) from None
    finally:
        process.join(_LAST)
        process.kill()  # what was interrupted has been given its time by then
        process.join()
        hears.close()
    if not good:
        raise came
    return came


class JobLost(RuntimeError):
    """A job's process ended without a word."""


def _end(code: int | None) -> str:
    """Say how a process ended."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended itself with status {code}"


def _work(
    says: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    hydra: DictConfig | None,
    logs: DictConfig | None,
    environment: dict[str, str],
    folder: str,
    started: float,
) -> None:
    """Call a function in this process; a job as Hydra's basic launcher would in its own."""
    threading.Thread(target=_end_with_command, name="command", daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    provenance.set_started(started)
    try:
        if hydra is not None:
            HydraConfig.instance().cfg = hydra  # type: ignore[assignment]  # as Hydra does
        if logs is not None:
            configure_log(logs, hydra.hydra.verbose if hydra is not None else False)
        says.send((True, function(*arguments)))
    except BaseException as error:
        says.send((False, error))
    finally:
        logging.shutdown()


def _end_with_command() -> None:
    """A command that was killed leaves no job behind: the same command goes on with it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
