"""``dinorl ui``: opens the runs in MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace

from dinorl.commands import Parser

SUMMARY = "Open the runs in MLflow's user interface."


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("--port", default="5000", help="of the page (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="who may see it; default: this machine alone")


def run(options: Namespace) -> int:
    """Serve the page until Ctrl-C; return MLflow's exit status."""
    from dinorl.config import compose
    from dinorl.config.secrets import whole
    from dinorl.tracking import store

    settings = compose([]).tracking
    store.create_store(settings)
    uri = store.uri_of(settings)
    if not uri.startswith(store.SQLITE):
        print(f"the runs are at {uri}")
        return 0
    artifacts = str((store.OUTPUTS / store.ARTIFACTS).absolute())
    command = [sys.executable, "-m", "mlflow", "ui", "--host", options.host, "--port", options.port]
    where = ["--backend-store-uri", whole(uri), "--default-artifact-root", artifacts]
    return subprocess.run([*command, *where], env={**os.environ, **store.SETTINGS}).returncode
