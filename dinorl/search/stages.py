"""The stages of one trial: each in its own process, which waits at every evaluation for an answer.

Stages share random states by process, so the seeds of a trial cannot share one.
"""

from __future__ import annotations

import csv
import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.types import HydraContext
from omegaconf import DictConfig

from dinorl.files.run_folder import RunFolder, read_status
from dinorl.search.journal import CONTINUE, PAUSE, PRUNE
from dinorl.sweep import isolate, job
from dinorl.sweep.workers import run_composed
from dinorl.tracking.listener import PASSED, Listener
from dinorl.training.interrupt import Interruption

POLL = 0.1  # s, between looks at an interruption
_PASSED = ("passed", "not proven")  # verdicts


@dataclass(frozen=True)
class Evaluation:
    """A stage's evaluation."""

    steps: int  # environment steps of the stage
    metrics: Mapping[str, float]
    last: bool  # the stage ends with it
    passed: bool = False  # its gate


class StageFailed(RuntimeError):
    """A stage ended with an error that a retry would meet again."""


class Reporting(Listener):
    """Sends evaluations to the search and waits for its answers.

    Args:
        connection: to the search.
        interruption: of the stage; it ends the wait.
    """

    def __init__(self, connection: Connection, interruption: Interruption) -> None:
        self._connection, self._interruption = connection, interruption

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Send an evaluation; return whether the answer is to stop."""
        self._connection.send((step, {key: float(value) for key, value in metrics.items()}))
        while not self._connection.poll(POLL):
            if self._interruption.signum:
                return False
        answer = self._connection.recv()
        if answer == PAUSE:
            self._interruption.request("paused by its search")
        return bool(answer == PRUNE)


def run_reporting(config: DictConfig, connection: Connection) -> dict[str, Any]:
    """Run a job as Hydra's launchers do, with an evaluation's answers from the search."""
    interruption = Interruption()
    task = functools.partial(job.run, listeners=[Reporting(connection, interruption)], interruption=interruption)
    context = HydraContext(config_loader=None, callbacks=Callbacks(config))  # type: ignore[arg-type]  # loads nothing
    state: dict[str, Any] = run_composed(context, task, config)
    return state


class StageRun:
    """A stage in its own process.

    Args:
        config: of the job, with Hydra's.
    """

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._budget: int = config.curriculum.timesteps
        self._connection, self._theirs = Pipe()
        self._asks = False
        self._state: dict[str, Any] = {}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="stage", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._state = isolate.call(run_reporting, self._config, self._theirs)
        except BaseException as error:
            self._error = error
        finally:
            self._theirs.close()  # the other end reads EOF

    def advance(self) -> Evaluation:
        """Train until the next evaluation; with the last one, wait until the stage is over.

        Raises:
            StageFailed: it failed.
            BaseException: its process died or was interrupted.
        """
        self._answer(CONTINUE)
        try:
            steps, metrics = self._connection.recv()
        except EOFError:
            self._end()
            raise StageFailed("it ended without an evaluation") from None
        self._asks = True
        passed = metrics.pop(PASSED) > 0.0
        last = passed or steps >= self._budget
        if last:
            self._answer(CONTINUE)
            self._end()
        return Evaluation(steps, metrics, last, passed)

    def stop(self) -> None:
        """End the stage as PRUNED, if it still runs."""
        self._answer(PRUNE)
        while self._thread.is_alive():
            try:
                self._connection.recv()
                self._connection.send(PRUNE)
            except (EOFError, OSError):
                self._thread.join()

    def pause(self) -> None:
        """End the stage as INTERRUPTED, at the evaluation that :meth:`advance` has returned.

        Raises:
            StageFailed: it ended otherwise.
        """
        self._answer(PAUSE)
        self._thread.join()
        if not isinstance(self._error, KeyboardInterrupt):
            raise StageFailed(f"it did not pause: {self._error or self._state.get('error')}")

    @property
    def gate(self) -> str:
        """The verdict of a stage that is over."""
        return str(self._state.get("gate"))

    def _answer(self, answer: str) -> None:
        if self._asks:
            self._asks = False
            try:
                self._connection.send(answer)
            except OSError:
                pass  # its end says why

    def _end(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self._state.get("status") not in ("DONE", "PRUNED"):
            raise StageFailed(str(self._state.get("error")))


class SeedRun:
    """The stages of a trial with one seed, one after another.

    Args:
        stages: the jobs' configs, with Hydra's.

    Attributes:
        steps: environment steps so far; of a stage that passed early, its whole budget.
        trained: environment steps really trained.
        metrics: of the newest evaluation.
        finished: all stages are over.
        passed: the last one passed its gate.
    """

    def __init__(self, stages: Sequence[DictConfig]) -> None:
        self._stages = list(stages)
        self._index = 0
        self._offset = self._trained = 0  # of the stages before
        self.steps = self.trained = 0
        self.metrics: Mapping[str, float] = {}
        self.finished = self.passed = False
        self._run: StageRun | None = None

    def advance(self) -> None:
        """Train until the next evaluation; one of a stage that is over already is read from its folder."""
        config = self._stages[self._index]
        evaluation, gate = None, ""
        if self._run is None:
            folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
            evaluation, gate = read_finished(folder)
        if evaluation is None:
            self._run = self._run or StageRun(config)
            evaluation, gate = self._run.advance(), self._run.gate
        self.metrics, self.trained = evaluation.metrics, self._trained + evaluation.steps
        self.steps = self._offset + evaluation.steps
        if evaluation.last:
            self._next(evaluation, gate, config.curriculum.timesteps)

    def _next(self, evaluation: Evaluation, gate: str, budget: int) -> None:
        """Go to the next stage."""
        self._run, self._index = None, self._index + 1
        self._trained = self.trained
        if self._index == len(self._stages) or gate == "stopped_on_budget":
            self.finished, self.passed = True, evaluation.passed
        else:
            self.steps = self._offset = self._offset + budget

    def stop(self) -> None:
        """End the running stage as PRUNED."""
        if self._run is not None:
            self._run.stop()
            self._run = None

    def pause(self) -> None:
        """End the running stage as INTERRUPTED, to be resumed from its last evaluation."""
        if self._run is not None:
            self._run.pause()
            self._run = None


def read_finished(folder: Path) -> tuple[Evaluation | None, str]:
    """Return the last evaluation and the verdict of a stage that is over; None if it is not."""
    state = read_status(folder) or {}
    if state.get("status") not in ("DONE", "PRUNED") or state.get("gate") == "none":
        return None, ""
    with RunFolder(folder).eval_csv.open(newline="", encoding="utf-8") as file:
        row = [row for row in csv.DictReader(file) if row["policy"] == "policy"][-1]
    metrics = {key: float(value) for key, value in row.items() if key not in ("policy", "gate") and value != ""}
    gate, done = str(state["gate"]), state["status"] == "DONE"
    return Evaluation(int(metrics["timesteps"]), metrics, done, gate in _PASSED), gate


def advance_together(seeds: Sequence[SeedRun]) -> None:
    """Advance the seeds that are behind, one at a time, so that all are judged at equal steps.

    A seed that has finished early keeps its last evaluation.
    """
    running = [seed for seed in seeds if not seed.finished]
    behind = min((seed.steps for seed in running), default=0)
    for seed in running:
        if seed.steps == behind:
            seed.advance()


def steps_together(seeds: Sequence[SeedRun]) -> int:
    """Return the steps that the seeds have in common."""
    running = [seed.steps for seed in seeds if not seed.finished]
    return min(running) if running else max(seed.steps for seed in seeds)
