"""``dinorl ui``: opens the runs in MLflow."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser
from argparse import Namespace

from dinorl.commands import Parser

SUMMARY = "Open the runs in MLflow's user interface."
ANYWHERE = ("0.0.0.0", "::")  # hosts that are no address
PATIENCE = 120.0  # s, for the server to start


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("--port", default="5000", help="of the page (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="who may see it; default: this machine alone")
    parser.add_argument("--no-browser", action="store_true", help="only print the page's address")


def run(options: Namespace) -> int:
    """Serve the page until Ctrl-C and open it at the runs; return MLflow's exit status."""
    from dinorl.config import compose
    from dinorl.config.secrets import whole
    from dinorl.sweep.parents import COLUMNS
    from dinorl.tracking import store, view

    settings = compose([]).tracking
    experiment, uri = store.create_store(settings), store.uri_of(settings)
    view.save(store.client(uri), experiment, COLUMNS)
    if not uri.startswith(store.SQLITE):
        print(f"the runs are at {view.page(uri, experiment)}")
        return 0
    host = "127.0.0.1" if options.host in ANYWHERE else options.host
    page = view.page(f"http://{host}:{options.port}", experiment)
    threading.Thread(target=_open, args=(page, not options.no_browser), name="browser", daemon=True).start()
    artifacts = str((store.OUTPUTS / store.ARTIFACTS).absolute())
    command = [sys.executable, "-m", "mlflow", "ui", "--host", options.host, "--port", options.port]
    where = ["--backend-store-uri", whole(uri), "--default-artifact-root", artifacts]
    return subprocess.run([*command, *where], env={**os.environ, **store.SETTINGS}).returncode


def _open(page: str, browser: bool) -> None:
    """Wait for the server, print the page's address and open it, where there is a screen."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(page, timeout=PATIENCE).close()
            print(f"the runs are at {page}", flush=True)
            if browser and _has_screen():
                webbrowser.open(page)
            return
        time.sleep(0.5)


def _has_screen() -> bool:
    """Whether a browser would open a window; without a screen one could take over the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
