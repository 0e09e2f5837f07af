"""Runs a job in its own process, so that a crash affects nothing else.

The command also calls MLflow in such a process, which has imported it already.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, util
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from hydra.core.utils import configure_log, env_override
from omegaconf import DictConfig

from dinorl.files import provenance
from dinorl.files.process import stops, unbreakable_output
from dinorl.tracking.store import SETTINGS

# Forked jobs inherit no threads, locks or databases.
_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOADED = [
    "dinorl.sweep.fork_server",
    # an edit reaches no job of a running command
    "dinorl.sweep.job",
    "dinorl.sweep.workers",
    "dinorl.learners.ppo",
    "dinorl.learners.sac",
    "dinorl.training.stage",
    "dinorl.tracking.tracker",
    "dinorl.verdicts.diagnosis",
    # imported late by MLflow
    "filelock",
    "sqlalchemy.dialects.sqlite",
    "mlflow.store.tracking.sqlalchemy_store",  # imported late by MLflow
    "scipy.special",  # imported late by evaluations
    "torch._dynamo",  # imported late by torch
]
T = TypeVar("T")
_EXIT_TIMEOUT = 2.0  # s, after the result
_LONGEST_TEMPDIR = 60  # characters


def prepare() -> None:
    """Start the fork server in the background; it preloads modules."""
    # same modules as here
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    mlflow = {name: os.environ.get(name, value) for name, value in SETTINGS.items()}
    with env_override({"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", **mlflow}), _short_tempdir():
        _CONTEXT.set_forkserver_preload(_PRELOADED)
        forkserver.ensure_running()


@contextlib.contextmanager
def _short_tempdir() -> Iterator[None]:
    """Let multiprocessing choose its folder; the fork server's socket there may have 108 characters."""
    usual = tempfile.gettempdir()
    shorter = [folder for folder in ("/tmp", "/dev/shm") if os.access(folder, os.W_OK)]
    if len(usual) > _LONGEST_TEMPDIR and shorter:
        tempfile.tempdir = shorter[0]
    try:
        util.get_temp_dir()
        yield
    finally:
        tempfile.tempdir = usual


class JobLost(RuntimeError):
    """A process ended without a result."""


class JobError(RuntimeError):
    """Replaces an error that cannot be pickled.

    Args:
        name: of the error's type.
        message: of the error.
        trace: its traceback, as text.
    """

    def __init__(self, name: str, message: str, trace: str) -> None:
        super().__init__(name, message, trace)
        self.name, self.message, self.trace = name, message, trace

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


class RemoteTraceback(Exception):
    """Traceback from another process, as the cause of an error."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def describe(error: BaseException) -> str:
    """Return an error's type and message."""
    return str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"


class Child:
    """A function that runs in a process of its own, forked from the server.

    Args:
        function: importable by its name.
        arguments: picklable.
        logs: the logging config there.

    Attributes:
        receive: readable when the process has ended or has a result.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, logs: DictConfig | None = None) -> None:
        self.receive, send = _CONTEXT.Pipe(duplex=False)
        surroundings = _Surroundings(dict(os.environ), os.getcwd(), provenance.started(), stops())
        self._process = _CONTEXT.Process(target=_work, args=(send, function, arguments, logs, surroundings))
        self._process.start()
        send.close()

    def result(self) -> Any:
        """Wait for the function and return its result.

        Raises:
            JobLost: the process ended without a result.
            JobError: the function's error, if it cannot be pickled.
            BaseException: the function's error; its cause is the traceback.
        """
        try:
            result = self.receive.recv()
        except EOFError:
            self._process.join()
            raise JobLost(_end(self._process.exitcode)) from None
        finally:
            self._process.join(_EXIT_TIMEOUT)
            self.kill()
        return result.unwrapped() if isinstance(result, Failure) else result

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.is_alive()

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        if self._process.pid is not None and self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self.receive.close()


def call(function: Callable[..., T], *arguments: Any, logs: DictConfig | None = None) -> T:
    """Call a function in its own process and return its result; see :class:`Child`."""
    result: T = Child(function, *arguments, logs=logs).result()
    return result


@dataclass(frozen=True)
class Failure:
    """An error sent between processes."""

    name: str
    message: str
    trace: str
    pickled: bytes | None  # None: impossible

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return an error of this process."""
        pickled, message = None, "its message cannot be read"
        with contextlib.suppress(Exception):
            pickled = pickle.dumps(error)
        with contextlib.suppress(Exception):
            message = str(error)
        return cls(type(error).__qualname__, message, "".join(traceback.format_exception(error)), pickled)

    def error(self) -> BaseException | None:
        """Return the error itself, or None if it cannot be unpickled."""
        if self.pickled is None:
            return None
        try:
            error = pickle.loads(self.pickled)
        except Exception:
            return None
        return error if isinstance(error, BaseException) else None

    def unwrapped(self) -> Any:
        """Raise the error; :class:`JobError` stands for one that cannot be unpickled."""
        raise self.error() or JobError(self.name, self.message, self.trace) from RemoteTraceback(self.trace)


@dataclass(frozen=True)
class _Surroundings:
    """What a process takes over from the command, since the fork server may be older."""

    environment: dict[str, str]
    folder: str
    started: float
    stops: list[int]  # signals that are not ignored

    def enter(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        provenance.set_started(self.started)
        unbreakable_output()
        for number in self.stops:
            signal.signal(number, signal.default_int_handler)


def _end(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended itself with status {code}"


def _work(
    send: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    logs: DictConfig | None,
    surroundings: _Surroundings,
) -> None:
    threading.Thread(target=_end_with_command, name="command", daemon=True).start()
    gc.freeze()  # the preloaded modules
    gc.enable()
    surroundings.enter()
    try:
        if logs is not None:
            configure_log(logs)
        send.send(function(*arguments))
    except BaseException as error:
        send.send(Failure.of(error))
    finally:
        logging.shutdown()


def _end_with_command() -> None:
    """End this process with the command, even if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
