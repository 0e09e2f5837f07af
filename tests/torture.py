"""``make torture``: curricula killed (SIGKILL) at random and restarted equal uninterrupted ones.

So do stages whose terminal closed, that got SIGHUP or lost the reader of their output, and a search that is killed
twice. Eight commands that start at once without a store are eight sweeps. Every row of :mod:`surroundings` holds. Exit
status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import searches
from cluster import HEAD, OTHER, two_machines
from surroundings import MLFLOW, ROWS, check

SHORT = (
    "species=trex", "sweep.name=t", "eval.episodes=4", "env.max_episode_steps=60", "eval.video_seconds=0",
    "sim.threads=1", "tracking.log_every=0.3", "curriculum.min_avg_reward=1e9",
)  # fmt: skip
ALGORITHMS = {
    "ppo": ("sim.n_envs=64", "ppo.n_steps=16", "ppo.batch_size=256", "curriculum.timesteps=60000", "eval.every=6000"),
    "sac": ("sim.n_envs=16", "sac.batch_size=64", "sac.learning_starts=500", "sac.buffer_size=4000",
            "curriculum.timesteps=8000", "eval.every=1000"),
}  # fmt: skip
STAGE = ("stage=balance", "curriculum.timesteps=30000")
CURRICULA = ("seed=0,1,2,3",)
STATUS = Path("outputs/t/trex-ppo-s0/1-balance/status.json")
ARRAYS = ("policy.npz", "optimizer.npz", "normalization.npz", "random.npz")
Histories = dict[str, dict[str, list[tuple[int, float]]]]  # steps and values by stage and key
TIMED = ("time/", "rollout/", "reward/")  # metrics that depend on the clock


def start(folder: Path, algo: str, *more: str, **how: Any) -> subprocess.Popen[bytes]:
    """Start the curriculum."""
    folder.mkdir(exist_ok=True)
    log = (folder / "output.log").open("ab")
    command = [sys.executable, "-m", "dinorl", f"algo={algo}", *SHORT, *ALGORITHMS[algo], *more]
    return subprocess.Popen(command, cwd=folder, **{"stdout": log, "stderr": log} | how)


def stages(folder: Path) -> list[Path]:
    """Return the run folders."""
    return sorted(path for path in (folder / "outputs" / "t").glob("*/*") if path.is_dir())


def everything(folder: Path) -> list[str]:
    """Return the names in a sweep's folder, down to its run folders."""
    return sorted(path.name for depth in ("*", "*/*") for path in (folder / "outputs" / "t").glob(depth))


def embedded(folder: Path) -> str:
    """Return the uri of the store below a folder."""
    from dinorl.tracking import store

    return f"sqlite:///{folder / store.OUTPUTS / store.DATABASE}"


def runs(uri: str) -> list[Any]:
    """Return all runs of a store."""
    from dinorl.tracking import store

    mlflow = store.client(uri)
    return list(mlflow.search_runs([e.experiment_id for e in mlflow.search_experiments()]))


def metrics(uri: str) -> Histories:
    """Return every metric's history in a store, by lineage, stage and key."""
    from dinorl.tracking import store

    mlflow, arrived = store.client(uri), runs(uri)
    return {
        f"{run.data.tags['lineage']}/{run.data.tags['stage']}": {
            key: [(m.step, m.value) for m in mlflow.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        for run in arrived
        if "mlflow.parentRunId" in run.data.tags
    } | {"runs": {"count": [(len(arrived), 0.0)]}}


def file_differences(straight: list[Path], broken: list[Path]) -> list[str]:
    """Return what differs between run folders."""
    found = []
    for one, other in zip(straight, broken, strict=True):
        files = [{str(p.relative_to(run)) for p in run.rglob("*") if p.is_dir()} for run in (one, other)]
        if files[0] != files[1]:
            found.append(f"{one.name}: folders {sorted(files[0] ^ files[1])} are only in one of them")
        if (one / "eval.csv").read_text() != (other / "eval.csv").read_text():
            found.append(f"{one.name}: eval.csv differs")
        for name in ARRAYS:
            for bundle in ("best", max((p.name for p in (one / "bundle").glob("[0-9]*")), key=int)):
                with np.load(one / "bundle" / bundle / name) as a, np.load(other / "bundle" / bundle / name) as b:
                    if a.files != b.files or any(not np.array_equal(a[k], b[k]) for k in a.files):
                        found.append(f"{one.name}: {bundle}/{name} differs")
    return found


def differences(straight: Path, broken: Path) -> list[str]:
    """Return what differs, is missing, doubled or left over in the killed curriculum."""
    found = []
    if everything(straight) != everything(broken):
        return [f"in the sweep's folder: {everything(straight)} and {everything(broken)}"]
    found += file_differences(stages(straight), stages(broken))
    return found + metric_differences(metrics(embedded(straight)), metrics(embedded(broken)))


def metric_differences(expected: Histories, arrived: Histories) -> list[str]:
    """Return what differs between two stores."""
    if expected.keys() != arrived.keys():
        return [f"MLflow has {sorted(arrived)}, not {sorted(expected)}"]
    found = []
    for stage, histories in expected.items():
        for key, history in histories.items():
            if not key.startswith(TIMED) and history != arrived[stage].get(key):
                found.append(f"{stage}: {key}: {len(history)} points, and {len(arrived[stage].get(key, []))}")
    for stage, histories in arrived.items():
        for key, history in histories.items():
            doubled = [step for step, count in Counter(step for step, _ in history).items() if count > 1]
            if doubled:
                found.append(f"{stage}: {key} is there twice at {doubled[:5]}")
    return found


def torture(algo: str, kills: int, seed: int) -> list[str]:
    """Compare a curriculum with ones that are killed ``kills`` times in all; return the differences."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        straight = Path(scratch) / "straight"
        begun = time.monotonic()
        if start(straight, algo).wait() != 0:
            return [f"it fails by itself: {(straight / 'output.log').read_text()[-2000:]}"]
        whole = time.monotonic() - begun
        print(f"{algo}: {whole:.0f} s uninterrupted", flush=True)
        found: list[str] = []
        killed = curricula = 0
        while killed < kills:
            curricula += 1
            broken = Path(scratch) / f"broken-{curricula}"
            while True:
                process = start(broken, algo)
                patience = draw.uniform(0.05, 0.6) * whole
                try:
                    if process.wait(patience if killed < kills else None) != 0:
                        return [*found, f"it fails: {(broken / 'output.log').read_text()[-2000:]}"]
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    killed += 1
                    reached = stages(broken)
                    where = reached[-1].name if reached else "no stage"
                    print(f"{algo}: kill {killed} after {patience:.1f} s, in {where}", flush=True)
            found += differences(straight, broken)
        print(f"{algo}: {killed} kills of {curricula} curricula", flush=True)
        return found


def train_for(seconds: float, folder: Path, process: subprocess.Popen[bytes], idle: Callable[[], Any]) -> None:
    """Wait until a stage has trained for some time, or the command has ended."""
    begun = None
    while process.poll() is None and (begun is None or time.monotonic() < begun + seconds):
        if begun is None and (folder / STATUS).exists():
            begun = time.monotonic()
        idle()
        time.sleep(0.01)


def close_terminal(folder: Path, moment: float) -> subprocess.Popen[bytes]:
    """Start a stage in a terminal of its own and close that."""
    ours, theirs = pty.openpty()
    process = start(
        folder, "ppo", *STAGE, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: os.login_tty(theirs)
    )
    os.close(theirs)
    os.set_blocking(ours, False)

    def read() -> None:
        with contextlib.suppress(OSError):
            os.read(ours, 1 << 16)

    train_for(moment * _seconds(folder.parent / "straight"), folder, process, read)
    os.close(ours)
    return process


def send_sighup(folder: Path, moment: float) -> subprocess.Popen[bytes]:
    """Start a stage and send SIGHUP to all of its processes."""
    process = start(folder, "ppo", *STAGE, start_new_session=True)
    train_for(moment * _seconds(folder.parent / "straight"), folder, process, lambda: None)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGHUP)
    return process


def close_pipe(folder: Path, moment: float) -> subprocess.Popen[bytes]:
    """Start a stage, read a share of the lines of its output and close the pipe."""
    process = start(folder, "ppo", *STAGE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    lines = len((folder.parent / "straight" / "output.log").read_text().splitlines())
    for _ in range(round(moment * lines)):
        process.stdout.readline()
    process.stdout.close()
    return process


def _seconds(folder: Path) -> float:
    """Return how long the stage trained."""
    seconds: float = json.loads((folder / STATUS).read_text())["seconds"]
    return seconds


def hang_ups(
    way: Callable[[Path, float], subprocess.Popen[bytes]], straight: Path, count: int, draw: random.Random
) -> list[str]:
    """Lose a stage's terminal at random moments and type its command again; return the differences."""
    found: list[str] = []
    ends: Counter[str] = Counter()
    for i in range(count):
        folder = straight.parent / f"{way.__name__}-{i}"
        way(folder, draw.uniform(0.0, 0.95)).wait()
        ends[_agreed(folder, found)] += 1
        if start(folder, "ppo", *STAGE).wait() != 0:
            return [*found, f"it fails: {(folder / 'output.log').read_text()[-2000:]}"]
        _agreed(folder, found)
        found += differences(straight, folder)
    print(f"{way.__name__}: {dict(ends)}", flush=True)
    return found


def _agreed(folder: Path, found: list[str]) -> str:
    """Return the stage's status; note if MLflow says something else."""
    if not (folder / STATUS).exists():
        return "not begun"
    status: str = json.loads((folder / STATUS).read_text())["status"]
    arrived = {one.info.status for one in runs(embedded(folder))}
    if arrived != {MLFLOW.get(status)}:
        found.append(f"{folder.name}: status.json says {status}, MLflow {arrived}")
    return status


def lost_terminals(count: int, seed: int) -> list[str]:
    """Lose the terminal in each way; return the differences."""
    with tempfile.TemporaryDirectory() as scratch:
        straight, draw = Path(scratch) / "straight", random.Random(seed)
        if start(straight, "ppo", *STAGE).wait() != 0:
            return [f"it fails by itself: {(straight / 'output.log').read_text()[-2000:]}"]
        ways = (close_terminal, send_sighup, close_pipe)
        return [line for way in ways for line in hang_ups(way, straight, count, draw)]


def surroundings() -> list[str]:
    """Check every row; return what does not hold."""
    found = []
    for row in ROWS:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                check(row, Path(scratch))
            except AssertionError as error:
                found.append(f"{row.name}: {error}")
    return found


def together(count: int) -> list[str]:
    """Start commands at once, without a store; return what is wrong afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "dinorl", "species=trex", "stage=balance", "experiment=debug",
                   "curriculum.timesteps=256", "eval.every=256", "sim.threads=1"]  # fmt: skip
        pipe = subprocess.PIPE
        begun = [subprocess.Popen(command, cwd=scratch, stdout=pipe, stderr=subprocess.STDOUT) for _ in range(count)]
        output = [process.communicate()[0].decode() for process in begun]
        found = [output[i][-2000:] for i, process in enumerate(begun) if process.returncode]
        folders = len(list(Path(scratch).glob("outputs/*/trex-ppo-s0/1-balance/bundle/best")))
        arrived = runs(embedded(Path(scratch)))
        if folders != count:
            found.append(f"{folders} sweeps have left a bundle in a folder of their own")
        if Counter(run.info.status for run in arrived) != {"FINISHED": 2 * count}:
            found.append(f"MLflow has {Counter(run.info.status for run in arrived)}")
        if any("mlflow.parentRunId" in run.data.tags and "eval/return_mean" not in run.data.metrics for run in arrived):
            found.append("MLflow lacks the evaluation of one")
        return found


def two_machines_torture(seed: int) -> list[str]:
    """Train four curricula on two machines that share no folder, also with one lost; return the differences."""
    from dinorl.tracking.store import make_tables

    draw, found = random.Random(seed), []
    with tempfile.TemporaryDirectory() as scratch:
        straight = Path(scratch) / "straight"
        if start(straight, "ppo", *CURRICULA).wait() != 0:
            return [f"it fails by itself: {(straight / 'output.log').read_text()[-2000:]}"]
        make_tables(database := Path(scratch) / "mlflow.db")
        for loses in (False, True):
            folder = Path(scratch) / f"cluster-{loses}"
            with two_machines(folder, database) as machines:
                command = [sys.executable, "-m", "dinorl", "algo=ppo", *SHORT, *ALGORITHMS["ppo"], *CURRICULA,
                           "hydra/launcher=ray", "hydra.launcher.ray.init.address=auto",
                           f"tracking.uri={machines.uri}"]  # fmt: skip
                sweep = machines.start(HEAD, *command, output=(folder / "output.log").open("w"))
                if loses:
                    while sweep.poll() is None and not list(machines.elsewhere.glob("outputs/t/*/*/bundle/*")):
                        time.sleep(0.1)
                    time.sleep(draw.uniform(1.0, 20.0))
                    machines.kill(OTHER)
                elsewhere = sweep.wait(), len(list(machines.elsewhere.glob("outputs/t/*/*/bundle")))
            if elsewhere[0] != 0:
                return [*found, f"it fails: {(folder / 'output.log').read_text()[-2000:]}"]
            lost = (folder / "output.log").read_text().count("is started again")
            print(
                f"two machines: {elsewhere[1]} stages were on the other machine, {lost} went on elsewhere", flush=True
            )
            found += file_differences(stages(straight), stages(folder))
            arrived = metrics(f"sqlite:///{folder}-mlflow/mlflow.db")
            found += metric_differences(metrics(embedded(straight)), arrived)
    return found


def killed_search() -> list[str]:
    """Kill a search twice, and a stage of it; return what differs from an uninterrupted one."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        output, _ = (whole := searches.start(home, "sweep.name=whole")).communicate()
        if whole.returncode != 0:
            return [f"it fails by itself: {output[-2000:]}"]
        reports = len(searches.journal_lines(home / "outputs" / "whole"))
        try:
            searches.kill(home, "broken", (3, reports - 8), reports)
        except AssertionError as error:
            return [f"it fails: {error}"]
        return searches.differences(home / "outputs" / "whole", home / "outputs" / "broken")


def main() -> int:
    """Torture both algorithms."""
    parser = argparse.ArgumentParser(description="Kill curricula at random moments, and compare.")
    parser.add_argument("--kills", type=int, default=10, help="per algorithm (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    chosen = parser.parse_args()
    found = together(8)
    bad = len(found)
    print(f"eight at once: {'each has its folder and its numbers in MLflow' if not found else ''}")
    print("\n".join(f"  {line}" for line in found), flush=True)
    for name, test in (
        (f"{len(ROWS)} surroundings", surroundings),
        ("lost terminals", lambda: lost_terminals(chosen.kills, chosen.seed)),
        ("killed search", killed_search),
        ("two machines", lambda: two_machines_torture(chosen.seed)),
    ):
        found = test()
        bad += len(found)
        print(f"{name}: {'as they must be' if not found else ''}")
        print("\n".join(f"  {line}" for line in found), flush=True)
    for algo in ALGORITHMS:
        found = torture(algo, chosen.kills, chosen.seed)
        bad += len(found)
        print(f"{algo}: {'the same to the bit, every metric once' if not found else ''}")
        print("\n".join(f"  {line}" for line in found), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
