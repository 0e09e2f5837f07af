"""All of a stage but learning: metrics, ramps, evaluations, the gate, bundles."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dinorl.bundle import write
from dinorl.config import MIN_EPISODES, Config
from dinorl.envs.batch import Episodes
from dinorl.evaluation.evaluator import Evaluator
from dinorl.files.provenance import seconds_since_start
from dinorl.files.run_folder import RunFolder
from dinorl.learners.base import Learner
from dinorl.tracking.listener import PASSED, Listeners, Progress
from dinorl.training import ramps, resume
from dinorl.training.evaluations import Best, EvaluationTable
from dinorl.training.faults import FaultFolder
from dinorl.training.gate import PASSED as PASSED_GATE
from dinorl.training.gate import STOPPED, Gate
from dinorl.training.interrupt import Interruption

# s between reports
REPORT_EVERY = 1.0


class Follower:
    """Hooks of a stage's learner.

    Args:
        cfg: the composed config.
        run_dir: the run folder.
        learner: of the stage.
        listeners: receive metrics and progress.
        interruption: asked whether to stop.
        begun: ``time.perf_counter()`` when the stage began.

    Attributes:
        gate: its state.
        best: the best evaluation, whose bundle is kept.
        null: metrics of the null policies, ``{"zero": …, "random": …}``.
        passed: the gate was passed.
        stopped: a listener stopped the stage.
        seconds_before: time spent before an interruption, s.
    """

    def __init__(
        self, cfg: Config, run_dir: Path, learner: Learner, listeners: Listeners, interruption: Interruption,
        begun: float,
    ) -> None:  # fmt: skip
        self.cfg, self.run_dir, self.learner, self.listeners = cfg, run_dir, learner, listeners
        self.evaluator = Evaluator(cfg)
        self.gate = Gate(cfg.curriculum)
        self.best = Best()
        self.null: dict[str, dict[str, float]] = {}
        self.passed = self.stopped = False
        self._table = EvaluationTable(RunFolder(run_dir).eval_csv)
        self._faults = FaultFolder(cfg, run_dir)
        self._interruption = interruption
        self._next_evaluation = cfg.eval.every
        self._evaluated_at = self._reported_at = self._saved_at = -1  # environment steps
        self._recent: dict[str, float] = {}  # metrics of recent episodes
        self._begun = begun
        self._startup: dict[str, float] = {}  # not logged yet
        self._reported = self._learning_since = time.perf_counter()
        self.evaluation_seconds = self.seconds_before = 0.0
        self._steps_before, self._evaluation_before = 0, 0.0  # when this process began

    def progress(self) -> dict[str, Any]:
        """Return the state that resuming needs, as JSON."""
        return {
            "consecutive": self.gate.consecutive, "passed": self.passed, "null": self.null, "rows": self._table.rows,
            "best_rank": self.best.rank, "best_evaluation": self.best.metrics, "pending": self.learner.pending(),
            "next_evaluation": self._next_evaluation, "evaluated_at": self._evaluated_at,
            "evaluation_seconds": self.evaluation_seconds,
            "seconds": self.seconds_before + time.perf_counter() - self._begun,
        }  # fmt: skip

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Continue from :meth:`progress`."""
        self.gate.consecutive, self.passed = progress["consecutive"], progress["passed"]
        self.null = {name: _restored(metrics) for name, metrics in progress["null"].items()}
        self._table.rows = [_restored(row) for row in progress["rows"]]
        self.best.metrics = _restored(progress["best_evaluation"])
        meets_gate, mean = progress["best_rank"]
        self.best.rank = (meets_gate, -math.inf if mean is None else mean)
        self._next_evaluation, self._evaluated_at = progress["next_evaluation"], progress["evaluated_at"]
        self.evaluation_seconds, self.seconds_before = progress["evaluation_seconds"], progress["seconds"]
        self._steps_before, self._evaluation_before = self.learner.timesteps, self.evaluation_seconds
        self._saved_at = self.learner.timesteps
        self.learner.record(_restored(progress["pending"]))
        self._table.write()
        if self._evaluated_at == self.learner.timesteps:  # killed before the listeners answered?
            self.stopped = self._notify(self._table.rows[-1])

    # The learner calls these -----------------------------------------------------------------------------------------

    def training_started(self) -> None:
        """Measure the startup time."""
        self._apply_schedules()
        self._reported = self._learning_since = time.perf_counter()
        self._startup = {
            "time/startup_s": self._reported - self._begun,  # of this stage
            "time/since_command_s": seconds_since_start(),  # including earlier stages
        }

    def rollout_started(self) -> None:
        """Evaluate if due; save everything if the stage was interrupted."""
        self._apply_schedules()
        self._maybe_evaluate()
        if self._interruption.signum:
            if self._saved_at != self.learner.timesteps:
                self._save({}, scheduled=False)
            self._interruption.check(kept=True, timesteps=self.learner.timesteps)

    def stepped(self) -> bool:
        """Report if due; return False when the gate is passed or a listener stops the stage."""
        self._interruption.check(kept=False, timesteps=self.learner.timesteps)
        if time.perf_counter() - self._reported >= REPORT_EVERY:
            self._report()
        return not (self.passed or self.stopped)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Pass metrics on to the listeners."""
        self.listeners.log_metrics(metrics, step)

    # The stage calls these -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Report and evaluate the final policy, unless that is done."""
        if self._reported_at != self.learner.timesteps:  # each metric once a step
            self._report()
        if not (self.passed or self.stopped) and self._evaluated_at != self.learner.timesteps:
            self._evaluate()

    def verdict(self) -> str:
        """Return the gate's verdict on the stage."""
        if self.passed:
            few = self.cfg.eval.episodes < MIN_EPISODES
            return "not proven" if few or self.null_passes() else PASSED_GATE
        if self.stopped:
            return STOPPED
        return "advanced_on_budget" if self.cfg.curriculum.on_budget == "advance" else "stopped_on_budget"

    def null_passes(self) -> list[str]:
        """Return the null policies that meet the gate's thresholds."""
        return [name for name, metrics in self.null.items() if self.gate.holds(metrics)]

    def seconds(self) -> float:
        """Return the stage's duration without interruptions, s."""
        return self.seconds_before + time.perf_counter() - self._begun

    def report_time(self, seconds: float) -> None:
        """Log shares of the stage's time."""
        self.log_metrics(
            {
                "time/stage_s": seconds,
                "time/evaluation_share": self.evaluation_seconds / seconds,
                "time/tracking_share": self.listeners.seconds / seconds,
            },
            self.learner.timesteps,
        )

    # -----------------------------------------------------------------------------------------------------------------

    def _apply_schedules(self) -> None:
        self.learner.apply_schedules()
        ramps.apply(self.cfg, self.learner.batch, self.learner.timesteps)

    def _report(self) -> None:
        now, steps, batch = time.perf_counter(), self.learner.timesteps, self.learner.batch
        self._faults.keep(batch.faults)
        batch.faults.clear()
        self._faults.check(batch.diverged, steps)
        learned_for = now - self._learning_since - (self.evaluation_seconds - self._evaluation_before)
        rate = (steps - self._steps_before) / max(learned_for, 1e-9)
        metrics: dict[str, float] = {}
        if ended := self.learner.drain_episodes():
            self._recent = _rollout_metrics(ended)
            metrics = self._recent | _reward_metrics(ended)
        # MLflow lists metrics in the order in which they came first
        self.log_metrics(metrics | {"time/steps_per_s": rate, "time/diverged": float(batch.diverged)}, steps)
        if self._startup:
            self.log_metrics(self._startup, 0)
            self._startup = {}
        nan = float("nan")
        self.listeners.progress(
            Progress(
                step=steps,
                total=self.cfg.curriculum.timesteps,
                rate=rate,
                episode_return=self._recent.get("rollout/ep_rew_mean", nan),
                episode_length=self._recent.get("rollout/ep_len_mean", nan),
                gate=self.gate.state(),
            )
        )
        self._reported, self._reported_at = now, steps

    def _maybe_evaluate(self) -> None:
        steps, every = self.learner.timesteps, self.cfg.eval.every
        if steps < self._next_evaluation:
            return
        while self._next_evaluation <= steps:
            self._next_evaluation += every
        if steps >= self.cfg.eval.start:
            self.stopped = self._evaluate()
        else:
            self._save({})  # may be killed before the first evaluation

    def _evaluate(self) -> bool:
        """Evaluate, save, notify the listeners; return whether one stops the stage."""
        if not self.null:
            self._evaluate_null()
        steps = self.learner.timesteps
        begun = time.perf_counter()
        metrics = self.evaluator.run(self.learner.policy())
        self.evaluation_seconds += time.perf_counter() - begun
        self._evaluated_at = steps
        self.passed = self.gate.update(metrics) or self.passed
        if self.best.update(metrics, meets_gate=self.gate.consecutive > 0):
            write.save(RunFolder(self.run_dir).best, self.learner, self.cfg, metrics)
        self._table.add(steps, "policy", self.gate.state(), metrics)
        checks = {f"gate/{c.key}": float(c.holds) for c in self.gate.checks(metrics)}
        self.log_metrics(_finite("eval/", metrics) | checks | {"gate/consecutive": float(self.gate.consecutive)}, steps)
        self._save(metrics)
        self.listeners.say(
            f"{steps:>10,} steps: return {metrics['return_mean']:.0f} ± {metrics['return_std']:.0f}, "
            f"length {metrics['length_mean']:.0f}, {metrics['forward_speed_mean_mps']:.2f} m/s, "
            f"falls {metrics['fall_rate']:.0%}, success {metrics['success_rate']:.0%}, gate {self.gate.state()}"
        )
        return self._notify(metrics)

    def _notify(self, metrics: Mapping[str, Any]) -> bool:
        """Notify the listeners of the newest evaluation; return whether one stops the stage."""
        numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        return self.listeners.evaluated(self._evaluated_at, numbers | {PASSED: float(self.passed)})

    def _evaluate_null(self) -> None:
        begun = time.perf_counter()
        self.null = self.evaluator.null_policies()
        self.evaluation_seconds += time.perf_counter() - begun
        for name, metrics in self.null.items():
            self._table.add(self.learner.timesteps, name, self.gate.state(), metrics)
        if passing := self.null_passes():
            self.listeners.say(f"the gate proves nothing: the {' and the '.join(passing)} policy meets it too")

    def _save(self, metrics: Mapping[str, float], scheduled: bool = True) -> None:
        """Write a resumable bundle. Listeners flush first, so that no earlier metric is lost."""
        self.listeners.flush()
        resume.save(self.run_dir, self.learner, self.cfg, metrics, self.progress(), scheduled)
        self._saved_at = self.learner.timesteps
        self._table.write()
        self.listeners.saved(self.learner.timesteps)


def _restored(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics from JSON, where NaN is null."""
    return {key: math.nan if value is None else value for key, value in metrics.items()}


def _rollout_metrics(ended: list[Episodes]) -> dict[str, float]:
    return {
        "rollout/ep_rew_mean": _mean(ended, "returns"),
        "rollout/ep_len_mean": _mean(ended, "lengths"),
        "rollout/success_rate": _mean(ended, "success"),
        "rollout/episodes": float(sum(e.ids.size for e in ended)),
    }


def _reward_metrics(ended: list[Episodes]) -> dict[str, float]:
    """Return each reward term's mean sum over an episode."""
    return {
        f"reward/{name}": float(np.concatenate([e.terms[name] for e in ended if name in e.terms]).mean())
        for name in ended[-1].terms
    }


def _mean(ended: list[Episodes], name: str) -> float:
    return float(np.concatenate([getattr(e, name) for e in ended]).mean())


def _finite(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}{key}": value for key, value in metrics.items() if math.isfinite(value)}
