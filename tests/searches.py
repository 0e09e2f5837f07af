"""A short search whose command and stages are killed, for tests and ``make torture``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from commands import Forked

from dinorl.files.run_folder import SearchFiles

COMMAND = (
    "hydra/sweeper=search", "species=trex", "stage=balance", "sim.n_envs=64", "ppo.n_steps=2", "ppo.batch_size=64",
    "curriculum.timesteps=1024", "eval.every=128", "eval.episodes=2", "env.max_episode_steps=20", "sim.threads=1",
    "eval.video_seconds=0", "tracking.models=false", "curriculum.min_avg_reward=1e9", "ppo.gamma=0.9,0.99",
    "ppo.learning_rate=tag(log,interval(1e-4,1e-1))", "search.samples=5", "search.jobs=1", "search.grace=256",
)  # fmt: skip


Running = subprocess.Popen[str] | Forked


def start(cwd: Path, *more: str) -> subprocess.Popen[str]:
    """Start the search as people do."""
    command = [sys.executable, "-m", "dinorl", *COMMAND, *more]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def begin(cwd: Path, *more: str) -> Forked:
    """Start the search, faster."""
    return Forked(cwd, *COMMAND, *more)


def journal_lines(folder: Path) -> list[str]:
    """Return the reports so far."""
    path = SearchFiles(folder).journal
    return path.read_text().splitlines() if path.exists() else []


def wait_for(running: Running, folder: Path, lines: int) -> None:
    """Wait until there are so many reports."""
    end = time.monotonic() + 240.0
    while len(journal_lines(folder)) < lines:
        assert running.poll() is None and time.monotonic() < end, f"fewer than {lines} reports"
        time.sleep(0.01)


def kill(cwd: Path, name: str, at: Sequence[int], reports: int, start: Callable[..., Running] = start) -> None:
    """Kill the command at each of these numbers of reports, then the stage that runs; let the rest end.

    Args:
        cwd: where it is typed.
        name: of the search.
        at: numbers of reports.
        reports: of the whole search; a kill must come before.
        start: :func:`start` or :func:`begin`.
    """
    folder = cwd / "outputs" / name
    for lines in at:
        running = start(cwd, f"sweep.name={name}")
        wait_for(running, folder, lines)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert len(journal_lines(folder)) < reports
    last = start(cwd, f"sweep.name={name}")
    wait_for(last, folder, len(journal_lines(folder)) + 1)
    for path in folder.glob("*/*/status.json"):
        state = json.loads(path.read_text())
        if state["status"] == "RUNNING":
            os.kill(state["pid"], signal.SIGKILL)
    output, _ = last.communicate(timeout=240)
    assert last.returncode == 0, output


def statuses(folder: Path) -> dict[str, tuple[str, str]]:
    """Return status and gate of each trial."""
    states = {path.parent.parent.name: json.loads(path.read_text()) for path in folder.glob("*/*/status.json")}
    return {name: (state["status"], state["gate"]) for name, state in states.items()}


def differences(whole: Path, broken: Path) -> list[str]:
    """Return what differs between the folders of two searches."""
    found = []
    if journal_lines(whole) != journal_lines(broken):
        found.append("the journals differ")
    if SearchFiles(whole).trials.read_text() != SearchFiles(broken).trials.read_text():
        found.append("trials.csv differs")
    if statuses(whole) != statuses(broken):
        found.append(f"trials are {statuses(broken)}, not {statuses(whole)}")
    return found
