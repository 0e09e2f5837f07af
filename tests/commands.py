"""Commands for tests: in a process of their own, as people type them, or in this one, which is faster."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from dinorl.__main__ import main
from dinorl.commands._door import call


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
