"""Commands for tests: as people type them, in a process that need not import, or in this one, which is fastest."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from dinorl.__main__ import main
from dinorl.commands._door import call
from dinorl.sweep import isolate


def dinorl(cwd: Path, *typed: str, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "dinorl", *typed]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def mlflow_server(database: Path, artifacts: Path, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Return command and environment variables of an MLflow server: what ``mlflow server`` starts, without itself."""
    command = [sys.executable, "-m", "uvicorn", "--host", host, "--port", str(port), "mlflow.server.fastapi_app:app"]
    return command, {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{database}",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(artifacts),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes more
    }


def word(*typed: str | Path) -> int:
    """Run a word in this process and return its exit status."""
    return call([str(argument) for argument in typed])


def dinorl_here(cwd: Path, *typed: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process; its jobs have their own, forked from a shared server.

    The jobs' output is not captured.
    """
    out, err = io.StringIO(), io.StringIO()
    before, argv, handler = Path.cwd(), sys.argv, signal.getsignal(signal.SIGTERM)
    status = 0
    os.chdir(cwd)
    sys.argv = ["dinorl", *typed]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.argv = argv
        os.chdir(before)
        signal.signal(signal.SIGTERM, handler)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    return subprocess.CompletedProcess(sys.argv, status, out.getvalue(), err.getvalue())


class Forked:
    """A command in a process of its own that imports nothing: it and its jobs are forked from this process's server.

    It is a command as people type it, but for its start and its own server of jobs. Its jobs write where it writes.

    Args:
        cwd: where it is typed.
        typed: its arguments.
        env: environment variables.
    """

    def __init__(self, cwd: Path, *typed: str, env: Mapping[str, str] | None = None) -> None:
        isolate.prepare()
        self._output, theirs = isolate._CONTEXT.Pipe(duplex=False)
        environment = dict(os.environ if env is None else env)
        self._process = isolate._CONTEXT.Process(target=_type, args=(theirs, str(cwd), typed, environment))
        self._process.start()
        self._process._config["daemon"] = True  # here: ended with this process; it has children itself
        theirs.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or None."""
        return self.poll()

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 240.0) -> tuple[str, None]:
        """Read to the end; return the output, with what was written as errors."""
        end, read = time.monotonic() + timeout, []
        while True:
            if not self._output.poll(max(0.0, end - time.monotonic())):
                self._process.kill()
                raise subprocess.TimeoutExpired("dinorl", timeout, b"".join(read))
            if not (some := os.read(self._output.fileno(), 1 << 16)):
                break
            read.append(some)
        self._process.join(max(0.0, end - time.monotonic()))
        self._output.close()
        return b"".join(read).decode(), None


def _type(output: Connection, cwd: str, typed: tuple[str, ...], env: dict[str, str]) -> None:
    """Be the command of :class:`Forked`."""
    gc.enable()
    _write_to(output)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores them
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    server = forkserver._forkserver  # its address is known here, but ensure_running() would start another
    server.ensure_running = forkserver.ensure_running = lambda: None
    isolate._work = functools.partial(_work, output)
    sys.argv = ["dinorl", *typed]
    main()


def _work(output: Connection, *arguments: Any) -> None:
    """Be a job of the command."""
    _write_to(output)
    isolate._work(*arguments)


def _write_to(output: Connection) -> None:
    for number in (1, 2):
        os.dup2(output.fileno(), number)
