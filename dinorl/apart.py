"""Runs a job in a process of its own, so that what ends that process ends nothing else."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, env_override
from hydra.types import TaskFunction
from omegaconf import DictConfig

from dinorl import provenance

# A server that has imported what takes seconds, and has done nothing else, forks the jobs: they start at once, and
# inherit no lock, no thread and no open database of the command.
_CONTEXT = multiprocessing.get_context("forkserver")
# The last two are what MLflow and torch import only when they are first used.
_PRELOADED = ["dinorl.training.stage", "dinorl.tracking", "mlflow.store.tracking.sqlalchemy_store", "torch._dynamo"]
# How long a job may take to end that has said its last word, s.
_LAST = 2.0


def prepare() -> None:
    """Begin to import, in the background, what the jobs need."""
    from multiprocessing import forkserver

    # the server is to find what this process would, and not what lies in the folder where it happens to start
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    with env_override({"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}):
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
        hears, says = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(
            target=_work,
            args=(says, self.task, cfg, HydraConfig.instance().cfg, dict(os.environ), provenance.started()),
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
    task: TaskFunction,
    cfg: DictConfig,
    hydra: DictConfig | None,
    environment: dict[str, str],
    started: float,
) -> None:
    """Run a job in this process, as Hydra's basic launcher would in its own."""
    threading.Thread(target=_end_with_command, name="command", daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    provenance.set_started(started)
    try:
        if hydra is not None:
            HydraConfig.instance().cfg = hydra  # type: ignore[assignment]  # as Hydra does
            configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
        says.send((True, task(cfg)))
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
