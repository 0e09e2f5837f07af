"""A Ray cluster of two machines, each with its own address and its own ``outputs/``, in network namespaces."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import mlflow_server

BIN = Path(sys.executable).parent
ADDRESSES = {"dinorl-a": "10.213.7.1", "dinorl-b": "10.213.7.2"}
HEAD, OTHER = ADDRESSES
PORT, MLFLOW_PORT = 6379, 5000


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def pids(name: str) -> list[int]:
    """Return the processes on a machine."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


class Cluster:
    """The cluster.

    Args:
        folder: of the head: its commands run there; the other machine sees an empty folder in its place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.elsewhere = folder, folder.with_name(f"{folder.name}-other")
        self._environment = {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),  # the same on all machines
            "RAY_worker_niceness": "0",  # other tests run beside
        }  # fmt: skip
        self.store = folder.with_name(f"{folder.name}-mlflow")
        self.uri = f"http://{ADDRESSES[HEAD]}:{MLFLOW_PORT}"

    def log(self, name: str) -> Path:
        """Return the file with what a machine's servers say."""
        return self.folder.with_name(f"{name}.log")

    def serve(self, name: str, *command: str) -> None:
        """Start a server on a machine."""
        with self.log(name).open("a", encoding="utf-8") as log:
            self.start(name, *command, output=log)

    def wait_until_said(self, name: str, words: str) -> None:
        """Wait for words of a machine's servers."""
        end = time.monotonic() + 120.0
        while words not in (said := self.log(name).read_text(encoding="utf-8")):
            assert time.monotonic() < end, said
            time.sleep(0.25)

    def start(self, name: str, *command: str, output: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a command on a machine."""
        mounted = f"mount --bind '{self.elsewhere}' '{self.folder}' && " if name == OTHER else ""
        shell = f"{mounted}cd '{self.folder}' && exec \"$@\""
        # its own mounts; the system's stay as they are
        return subprocess.Popen(
            ["ip", "netns", "exec", name, "unshare", "--mount", "--propagation", "private", "bash", "-c", shell, name,
             *command],
            stdout=output, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **self._environment},
        )  # fmt: skip

    def kill(self, name: str) -> None:
        """End all processes of a machine, as if its plug was pulled."""
        for _ in range(20):
            for pid in pids(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not pids(name):
                return
            time.sleep(0.1)

    def wait_for(self, name: str, address: str) -> None:
        """Wait until something on a machine takes connections."""
        host, port = address.split(":")
        look = f"until (exec 3<>/dev/tcp/{host}/{port}) 2> /dev/null; do sleep 0.25; done"
        assert self.start(name, "timeout", "120", "bash", "-c", look).wait() == 0, f"nothing answers at {address}"


@contextlib.contextmanager
def two_machines(folder: Path, store: Path, cpus: int = 1) -> Iterator[Cluster]:
    """Begin a cluster with an MLflow server on its head.

    Args:
        folder: of the head.
        store: an MLflow database for the server, which gets a copy.
        cpus: of each machine, for Ray.

    Raises:
        OSError, subprocess.CalledProcessError: no network namespaces can be made here.
    """
    cluster = Cluster(folder)
    folder.mkdir(exist_ok=True)
    cluster.elsewhere.mkdir()
    try:
        for name in ADDRESSES:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "dinorl-a0", "netns", HEAD, "type", "veth", "peer", "name", "dinorl-b0", "netns", OTHER)
        for name, address in ADDRESSES.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", f"{name}0")
            ip("-n", name, "link", "set", f"{name}0", "up")
        cluster.store.mkdir()
        shutil.copy(store, cluster.store)
        database, artifacts = cluster.store / store.name, cluster.store / "artifacts"
        command, env = mlflow_server(database, artifacts, ADDRESSES[HEAD], MLFLOW_PORT)
        cluster.serve(HEAD, "env", *(f"{name}={value}" for name, value in env.items()), *command)
        ray = [str(BIN / "ray"), "start", "--block", "--num-cpus", str(cpus), "--disable-usage-stats"]
        own = ("--node-ip-address", ADDRESSES[HEAD])
        cluster.serve(HEAD, *ray, "--head", f"--port={PORT}", "--include-dashboard=false", *own)
        cluster.wait_for(HEAD, f"{ADDRESSES[HEAD]}:{PORT}")
        own = ("--node-ip-address", ADDRESSES[OTHER])
        cluster.serve(OTHER, *ray, "--address", f"{ADDRESSES[HEAD]}:{PORT}", *own)
        cluster.wait_for(HEAD, f"{ADDRESSES[HEAD]}:{MLFLOW_PORT}")
        cluster.wait_until_said(OTHER, "Ray runtime started")
        yield cluster
    finally:
        for name in ADDRESSES:
            cluster.kill(name)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(cluster.elsewhere, ignore_errors=True)
