"""Places and ways in which people run dinorl: one tiny command under each, and what must be true afterwards.

``tests/test_surroundings.py`` runs the quick rows, ``make torture`` all of them. A new one is a new :class:`Row`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands import dinorl_here

TINY = (
    "species=trex", "stage=balance", "sweep.name=s", "sim.n_envs=64", "ppo.n_steps=4", "ppo.batch_size=64",
    "ppo.n_epochs=1", "curriculum.timesteps=3000", "eval.every=750", "eval.episodes=2", "env.max_episode_steps=20",
    "eval.video_seconds=0", "tracking.models=false", "tracking.log_every=0.2", "sim.threads=1",
    "curriculum.min_avg_reward=1e9",
)  # fmt: skip
LONG = ("curriculum.timesteps=1000000", "eval.every=2000")
RUN = Path("outputs/s/trex-ppo-s0/1-balance")
TIMEOUT = 120.0  # s
SECRET = "dont-tell"
# MLflow's status of a run, by that of status.json.
MLFLOW = {"DONE": "FINISHED", "INTERRUPTED": "KILLED", "FAILED": "FAILED"}


@dataclass
class Ended:
    """How a command ended."""

    status: int
    output: str


Start = Callable[[Sequence[str], Path, Mapping[str, str]], Ended]


def _begin(typed: Sequence[str], folder: Path, env: Mapping[str, str], **how: Any) -> subprocess.Popen[bytes]:
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
    return subprocess.Popen([sys.executable, "-m", "dinorl", *typed], cwd=folder, env=os.environ | env, **how)


def plainly(typed: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
    """Wait for the end."""
    process = _begin(typed, folder, env)
    output, _ = process.communicate(timeout=TIMEOUT)
    return Ended(process.returncode, output.decode(errors="replace"))


def here(typed: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
    """Run it in this process, which is faster; its words and status are the same."""
    done = dinorl_here(folder, *typed)
    return Ended(done.returncode, done.stdout + done.stderr)


def into(place: str) -> Start:
    """Write to a file or device."""

    def start(typed: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
        with open(place, "wb") as output:
            return Ended(_begin(typed, folder, env, stdout=output, stderr=output).wait(TIMEOUT), "")

    return start


def without_streams(typed: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
    """Close standard input, output and error."""
    process = _begin(typed, folder, env, stdout=None, stderr=None, preexec_fn=lambda: os.closerange(0, 3))
    return Ended(process.wait(TIMEOUT), "")


def head(lines: int) -> Start:
    """Read some lines and close the pipe, as ``| head -n`` does."""

    def start(typed: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
        process = _begin(typed, folder, env)
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        return Ended(process.wait(TIMEOUT), "")

    return start


def unread(typed: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
    """Read nothing from a small pipe until the stage is done, as ``| less`` does."""
    process = _begin(typed, folder, env)
    assert process.stdout is not None
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    end = time.monotonic() + TIMEOUT
    while _status(folder).get("status") != "DONE" and time.monotonic() < end:
        time.sleep(0.1)
    output, _ = process.communicate(timeout=TIMEOUT)
    return Ended(process.returncode, output.decode(errors="replace"))


def hung_up(own: bool) -> Start:
    """Close the terminal while it trains.

    Args:
        own: the command leads its session, so that it gets SIGHUP too.
    """

    def start(typed: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
        ours, theirs = pty.openpty()

        def take() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        process = _begin(
            typed, folder, {**env, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
            preexec_fn=take if own else os.setsid,
        )  # fmt: skip
        os.close(theirs)
        _drain(ours, lambda: _newest(folder) > 0.0)
        os.close(ours)
        return Ended(process.wait(TIMEOUT), "")

    return start


def _drain(terminal: int, until: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    os.set_blocking(terminal, False)
    while not until() and time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 1 << 16)
        time.sleep(0.02)


def signalled(number: int, group: bool = False, ignored: bool = False) -> Start:
    """Send a signal while it trains.

    Args:
        number: of the signal.
        group: to all processes of the command, as a terminal does.
        ignored: start it as ``nohup`` does.
    """

    def start(typed: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
        heard = signal.SIG_IGN if ignored else signal.SIG_DFL
        process = _begin(
            typed, folder, env, start_new_session=True, preexec_fn=lambda: signal.signal(number, heard)
        )  # fmt: skip
        begun, end = time.time(), time.monotonic() + TIMEOUT
        while _newest(folder) < begun and time.monotonic() < end:
            time.sleep(0.02)
        (os.killpg if group else os.kill)(process.pid, number)
        output, _ = process.communicate(timeout=TIMEOUT)
        return Ended(process.returncode, output.decode(errors="replace"))

    return start


def _newest(folder: Path) -> float:
    """Return when the newest bundle was written, s since the epoch; 0 if there is none."""
    return max((path.stat().st_mtime for path in (folder / RUN / "bundle").glob("[0-9]*")), default=0.0)


def _status(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / RUN / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return state


def _train(folder: Path, *more: str) -> None:
    done = plainly([*TINY, *more], folder, {})
    assert done.status == 0, done.output


def experiment_deleted(folder: Path) -> None:
    """Delete the experiment in MLflow's user interface."""
    _train(folder, "sweep.name=before")
    mlflow = client(folder)
    mlflow.delete_experiment(mlflow.get_experiment_by_name("dinorl").experiment_id)


def run_deleted(folder: Path) -> None:
    """Interrupt a stage and delete its MLflow run."""
    signalled(signal.SIGTERM)([*TINY, *LONG], folder, {})
    mlflow = client(folder)
    for run in mlflow.search_runs([mlflow.get_experiment_by_name("dinorl").experiment_id]):
        mlflow.delete_run(run.info.run_id)


def store_moved(folder: Path) -> None:
    """Train elsewhere and move everything here."""
    old = folder.parent / "old"
    old.mkdir()
    _train(old, "sweep.name=before")
    shutil.move(old / "outputs", folder / "outputs")
    old.rmdir()
    old.write_text("nothing may be written here")


def artifacts_blocked(folder: Path) -> None:
    """Let no artifact be written."""
    (folder / "outputs").mkdir()
    (folder / "outputs" / "mlartifacts").write_text("no folder")


def outputs_blocked(folder: Path) -> None:
    """Let nothing be written."""
    (folder / "outputs").write_text("no folder")


def overlay(folder: Path) -> None:
    """Write an experiment of one's own."""
    (folder / "experiment").mkdir()
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\ncurriculum:\n  timesteps: 2000\n")


def client(folder: Path) -> Any:
    """Return a client of the store in a folder."""
    from dinorl.tracking import store

    return store.client(f"{store.SQLITE}{folder}/outputs/mlflow.db")


def _same(folder: Path, ended: Ended) -> None:
    """The store says what status.json says."""
    if "?" in str(folder):
        return
    with contextlib.closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as database:
        found = database.execute(
            "SELECT status FROM runs JOIN tags ON runs.run_uuid = tags.run_uuid AND tags.key = 'sweep' "
            "WHERE tags.value = 's' AND lifecycle_stage = 'active'"
        ).fetchall()
    assert {row[0] for row in found} == {MLFLOW[_status(folder)["status"]]}, found
    assert len(found) == 2, found


def _nowhere(folder: Path, ended: Ended) -> None:
    assert not (folder / RUN).exists()


def _beside(folder: Path, ended: Ended) -> None:
    """The numbers are in the other store."""
    assert not (folder / "outputs" / "mlflow.db").exists() and (folder / "other.db").exists()


def _named(folder: Path, ended: Ended) -> None:
    assert client(folder).get_experiment_by_name("mine") is not None


def _secret(folder: Path, ended: Ended) -> None:
    """No file and no line has the password."""
    assert SECRET not in ended.output
    told = [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not told, told


def _moved(folder: Path, ended: Ended) -> None:
    _same(folder, ended)
    assert (folder.parent / "old").is_file()
    mlflow = client(folder)
    for run in mlflow.search_runs([mlflow.get_experiment_by_name("dinorl").experiment_id]):
        if "mlflow.parentRunId" in run.data.tags:
            assert {"bundle", "eval.csv"} <= {file.path for file in mlflow.list_artifacts(run.info.run_id)}


@dataclass(frozen=True)
class Row:
    """One of the surroundings.

    Args:
        name: of the row.
        typed: options and overrides after the usual ones.
        env: environment variables.
        folder: the current folder's name.
        before: prepares the folder.
        start: how the command is run.
        exit: its status.
        status: of ``status.json``; None: nothing was trained.
        words: in the output.
        holds: more that must be true.
        quick: in the suite, not only in ``make torture``.
    """

    name: str
    typed: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    folder: str = "here"
    before: Callable[[Path], None] | None = None
    start: Start = plainly
    exit: int = 0
    status: str | None = "DONE"
    words: str = ""
    holds: Callable[[Path, Ended], None] = _same
    quick: bool = False


def refused(name: str, words: str, *typed: str, **more: Any) -> Row:
    """Return a row of a command that trains nothing and says why."""
    start = plainly if "env" in more else here
    usual = {"exit": 2, "status": None, "holds": _nowhere, "quick": True, "start": start}
    return Row(name, typed, words=words, **usual | more)


LONG_TMP = "/tmp/" + "x" * 93
ROWS = (
    # Terminals and pipes.
    Row("head", start=head(1), quick=True),
    Row("head of the stage", start=head(9)),
    Row("full disk as output", start=into("/dev/full")),
    Row("no streams", start=without_streams),
    Row("unread pipe", ("eval.every=256",), start=unread),
    Row("ascii", env={"PYTHONIOENCODING": "ascii"}, words="+-"),
    Row("c locale", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Row("latin 1", env={"PYTHONIOENCODING": "latin-1"}),
    Row("narrow terminal", env={"COLUMNS": "1"}),
    Row("terminal closed", LONG, start=hung_up(own=True), exit=130, status="INTERRUPTED", quick=True),
    Row("terminal closed, session left", start=hung_up(own=False)),
    # Signals.
    Row("sighup", LONG, start=signalled(signal.SIGHUP), exit=130, status="INTERRUPTED", words="sweep.name=s"),
    Row("sighup to all", LONG, start=signalled(signal.SIGHUP, group=True), exit=130, status="INTERRUPTED"),
    Row("sigterm to all", LONG, start=signalled(signal.SIGTERM, group=True), exit=130, status="INTERRUPTED"),
    Row("sigint to all", LONG, start=signalled(signal.SIGINT, group=True), exit=130, status="INTERRUPTED"),
    Row("nohup", start=signalled(signal.SIGHUP, group=True, ignored=True), quick=True),
    Row("sigpipe", start=signalled(signal.SIGPIPE, group=True)),
    # Folders.
    Row("spaces and signs", folder='a b"c,d=e;f&g'),
    Row("not ascii", folder="größe 恐竜"),
    Row("chdir", ("hydra.job.chdir=true",), quick=True),
    Row("long temporary folder", env={"TMPDIR": LONG_TMP}, before=lambda _: Path(LONG_TMP).mkdir(exist_ok=True)),
    refused("question mark", "cannot have ? in its path", folder="a?b", quick=False),
    refused("percent", "cannot have % in its path", folder="a%25b", quick=False),
    refused("quote", "cannot have ' in its path", folder="a'b", quick=False),
    refused("hash", "cannot have # in its path", folder="a#b", quick=False),
    refused("interpolation", "cannot have ${ in its path", folder="a${x}b"),
    Row("question mark, store elsewhere", ("tracking.uri=sqlite:////tmp/dinorl-elsewhere.db",), folder="a?b"),
    refused("outputs is a file", "outputs", before=outputs_blocked, quick=False),
    # The environment.
    Row("osmesa", env={"MUJOCO_GL": "osmesa"}, words="MUJOCO_GL=osmesa"),
    Row("unknown gl", env={"MUJOCO_GL": "foo"}, words="expected egl, osmesa, glfw or disabled"),
    Row("no home", env={"HOME": "/nonexistent"}),
    Row("dumb terminal", env={"TERM": "dumb", "NO_COLOR": "1"}),
    Row("number from the environment", ("seed=${oc.env:SEED}",), env={"SEED": "0"}),
    refused("optimized python", "Unset PYTHONOPTIMIZE", "seed=range(0,2)", env={"PYTHONOPTIMIZE": "1"}),
    # MLflow.
    Row("tracking uri of the environment", env={"MLFLOW_TRACKING_URI": "sqlite:///other.db"}, holds=_beside),
    Row("experiment of the environment", env={"MLFLOW_EXPERIMENT_NAME": "mine"}, holds=_named),
    Row("password", (f"tracking.uri=http://me:{SECRET}@127.0.0.1:9", "tracking.required=false"), holds=_secret,
        words="me:***@"),
    refused("no driver", "cannot be reached", "tracking.uri=postgresql://me@127.0.0.1/x", quick=False),
    refused("no server", "cannot be reached", "tracking.uri=http://127.0.0.1:9", quick=False),
    refused("experiment deleted", "experiments restore", before=experiment_deleted, quick=False),
    Row("run deleted", LONG, before=run_deleted, start=signalled(signal.SIGTERM), exit=130, status="INTERRUPTED"),
    Row("store moved", before=store_moved, holds=_moved),
    Row("artifacts blocked", before=artifacts_blocked, words="dinorl send"),
    # Hydra's own.
    refused("config name", "--config-dir", "--config-name=other"),
    refused("config path", "--config-dir", "--config-path=/tmp"),
    refused("run dir", "hydra.sweep.dir", "hydra.run.dir=/tmp/x"),
    refused("rerun", "sweep.name=NAME", "--experimental-rerun=x"),
    refused("basic sweeper", "Remove it", "hydra/sweeper=basic"),
    refused("resolve", "--cfg=job --resolve", "--resolve"),
    refused("equals in a value", "warm_start=\"a=b\"", "warm_start=a=b"),
    refused("query in a url", 'x=1"', "tracking.uri=http://127.0.0.1/?x=1"),
    Row("config dir", ("--config-dir=.", "experiment=mine"), before=overlay),
    Row("search path", ("hydra.searchpath=[file://.]", "experiment=mine"), before=overlay),
)  # fmt: skip


def check(row: Row, scratch: Path, store: Path | None = None) -> None:
    """Run a row in an empty folder.

    Args:
        row: to run.
        scratch: where its folder is made.
        store: an empty one that is there already.

    Raises:
        AssertionError: something is not as it must be.
    """
    folder = scratch / row.folder
    folder.mkdir()
    if store is not None:
        (folder / "outputs").mkdir()
        shutil.copy(store, folder / "outputs")
    if row.before is not None:
        row.before(folder)
    ended = row.start([*TINY, *row.typed], folder, row.env)
    log = folder / RUN / "train.log"
    told = ended.output + (log.read_text() if log.exists() else "")
    assert ended.status == row.exit, f"exit status {ended.status}: {told}"
    assert "Traceback" not in told, told
    assert row.words in " ".join(ended.output.split()), told
    assert _status(folder).get("status") == row.status, told
    row.holds(folder, ended)
