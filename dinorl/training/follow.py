"""What happens in a stage besides gradient steps: metrics, ramps, evaluations, the gate, bundles."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.vec_env import VecNormalize

from dinorl.bundle import bundle
from dinorl.config import MIN_EPISODES, Config
from dinorl.envs.batch import Episodes
from dinorl.evaluation.evaluator import Evaluator
from dinorl.files.provenance import seconds_since_start
from dinorl.learners.algorithms import bearing_scale, deterministic, entropy_schedule, episode_steps, ramp_weight
from dinorl.learners.vec_env import DinoVecEnv
from dinorl.tracking.tracker import Tracker
from dinorl.training import resume
from dinorl.training.faults import FaultFolder
from dinorl.training.gate import Gate
from dinorl.training.interrupt import Interruption

log = logging.getLogger(__name__)

# Seconds between two looks at what training does; counted in time, not in rollouts, as algorithms differ in those.
REPORT_EVERY = 1.0


class TrackerOutput(KVWriter):
    """Sends what Stable-Baselines3 logs of its gradient steps to the tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:  # fmt: skip
        """Send the ``train/*`` values; the rest is measured better here."""
        self._tracker.log_metrics(
            {key: float(value) for key, value in key_values.items() if key.startswith("train/")}, step
        )

    def close(self) -> None:
        """Nothing to close."""


class StageCallback(BaseCallback):
    """Follows one stage.

    Attributes:
        gate: its state.
        best_evaluation: metrics of the best bundle: of those that meet the gate, if any does, the one of the highest
            mean return less one standard deviation.
        null: metrics of the null policies, ``{"zero": …, "random": …}``.
        passed: the gate was passed.
        seconds_before: what the stage took before it was interrupted, if it was.

    Args:
        cfg: the composed config.
        run_dir: where bundles and eval.csv go.
        tracker: where metrics go.
        raw, env: the environment without and with normalisation.
        begun: ``time.perf_counter()`` when the stage began.
        interruption: asked whether to go on.
    """

    def __init__(
        self, cfg: Config, run_dir: Path, tracker: Tracker, raw: DinoVecEnv, env: VecNormalize, begun: float,
        interruption: Interruption,
    ) -> None:  # fmt: skip
        super().__init__()
        self.cfg, self.run_dir, self.tracker, self.raw, self.env = cfg, run_dir, tracker, raw, env
        self.evaluator = Evaluator(cfg)
        self.gate = Gate(cfg.curriculum)
        self._faults = FaultFolder(cfg, run_dir)
        self.best_evaluation: dict[str, float] = {}
        self.null: dict[str, dict[str, float]] = {}
        self.passed = False
        self._best_rank = (False, -np.inf)
        self._next_evaluation = cfg.eval.every
        self._evaluated_at = self._reported_at = -1  # environment steps
        self._entropy = entropy_schedule(cfg)
        self._begun, self._interruption = begun, interruption
        self._reported = self._trains_since = time.perf_counter()
        self._recent: dict[str, float] = {}
        self._last: list[Episodes] = []
        self.evaluation_seconds = self.seconds_before = 0.0
        self._steps_before, self._evaluation_before = 0, 0.0
        self._rows: list[dict[str, Any]] = []  # of eval.csv

    def progress(self) -> dict[str, Any]:
        """Return what going on with the stage must know, as JSON."""
        pending = {key: float(value) for key, value in self.logger.name_to_value.items() if key.startswith("train/")}
        return {
            "consecutive": self.gate.consecutive, "passed": self.passed, "null": self.null, "rows": self._rows,
            "best_rank": self._best_rank, "best_evaluation": self.best_evaluation, "pending": pending,
            "next_evaluation": self._next_evaluation, "evaluated_at": self._evaluated_at,
            "evaluation_seconds": self.evaluation_seconds,
            "seconds": self.seconds_before + time.perf_counter() - self._begun,
        }  # fmt: skip

    def go_on(self, progress: dict[str, Any], model: BaseAlgorithm) -> None:
        """Take up what :meth:`progress` returned; what may not have been tracked before the end is tracked again."""
        self.gate.consecutive, self.passed, self.null = progress["consecutive"], progress["passed"], progress["null"]
        self._rows, self._best_rank = progress["rows"], tuple(progress["best_rank"])
        self.best_evaluation = progress["best_evaluation"]
        self._next_evaluation, self._evaluated_at = progress["next_evaluation"], progress["evaluated_at"]
        self.evaluation_seconds, self.seconds_before = progress["evaluation_seconds"], progress["seconds"]
        self._steps_before, self._evaluation_before = model.num_timesteps, self.evaluation_seconds
        for key, value in progress["pending"].items():
            model.logger.record(key, value)
        self._write_rows()

    # Stable-Baselines3 calls these -----------------------------------------------------------------------------------

    def _on_training_start(self) -> None:
        self._apply_schedules()
        self._reported = self._trains_since = time.perf_counter()
        self.tracker.log_metrics(
            {
                "time/startup_s": self._reported - self._begun,  # of this stage
                "time/since_command_s": seconds_since_start(),  # of all stages before it too
            },
            0,
        )

    def _on_rollout_start(self) -> None:
        # Between an update and the next rollout all of the training's state can be kept, so this is where it is looked
        # at. PPO reads its entropy coefficient in the update, SAC's is read by every gradient step.
        self._apply_schedules()
        self._maybe_evaluate()
        if self._interruption.signum:
            self._keep({})
            self._interruption.check(kept=True)

    def _on_step(self) -> bool:
        self._interruption.check(kept=False)
        if time.perf_counter() - self._reported >= REPORT_EVERY:
            self._report()
        return not self.passed

    # The rest is ours ------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Report and evaluate what training ended with, if that has not been done."""
        if self._reported_at != self.num_timesteps:  # each metric once a step
            self._report()
        if not self.passed and self._evaluated_at != self.num_timesteps:
            self._evaluate()

    def verdict(self) -> str:
        """Return the gate's verdict on the stage."""
        if not self.passed:
            return "advanced_on_budget" if self.cfg.curriculum.on_budget == "advance" else "stopped_on_budget"
        few = self.cfg.eval.episodes < MIN_EPISODES
        return "not proven" if few or self.null_passes() else "passed"

    def null_passes(self) -> list[str]:
        """Return the null policies that meet the gate's thresholds themselves."""
        return [name for name, metrics in self.null.items() if self.gate.holds(metrics)]

    def report_time(self, seconds: float) -> None:
        """Log where the stage's time went."""
        self.tracker.log_metrics(
            {
                "time/stage_s": seconds,
                "time/evaluation_share": self.evaluation_seconds / seconds,
                "time/tracking_share": self.tracker.seconds / seconds,
            },
            self.num_timesteps,
        )

    def _apply_schedules(self) -> None:
        remaining = 1.0 - self.num_timesteps / self.cfg.curriculum.timesteps
        if self._entropy is not None:
            value = self._entropy(remaining)
            if isinstance(self.model, SAC):
                self.model.ent_coef_tensor.fill_(value)
            else:
                self.model.ent_coef = value  # type: ignore[attr-defined]
        self.raw.batch.task.set_weight("forward_vel_weight", ramp_weight(self.cfg, self.num_timesteps))
        self.raw.batch.bearing_scale = bearing_scale(self.cfg, self.num_timesteps)
        self.raw.batch.max_episode_steps = episode_steps(self.cfg, self.num_timesteps)

    def _report(self) -> None:
        now = time.perf_counter()
        batch = self.raw.batch
        self._faults.keep(batch.faults)
        batch.faults.clear()
        self._faults.check(batch.diverged, self.num_timesteps)
        ended = self.raw.drain_episodes()
        trained = now - self._trains_since - (self.evaluation_seconds - self._evaluation_before)
        rate = (self.num_timesteps - self._steps_before) / max(trained, 1e-9)
        metrics = {"time/steps_per_s": rate, "time/diverged": float(batch.diverged)}
        if ended:
            self._recent = {
                "rollout/ep_rew_mean": _mean(ended, "returns"),
                "rollout/ep_len_mean": _mean(ended, "lengths"),
                "rollout/success_rate": _mean(ended, "success"),
                "rollout/episodes": float(sum(e.ids.size for e in ended)),
            }
            for name in ended[-1].terms:
                total = np.concatenate([e.terms[name] for e in ended if name in e.terms])
                metrics[f"reward/{name}"] = float(total.mean())
            metrics |= self._recent
        self.tracker.log_metrics(metrics, self.num_timesteps)
        self.tracker.progress(
            self.num_timesteps,
            self.cfg.curriculum.timesteps,
            rate=rate,
            ret=self._recent.get("rollout/ep_rew_mean", float("nan")),
            length=self._recent.get("rollout/ep_len_mean", float("nan")),
            gate=self.gate.state(),
        )
        self._reported, self._reported_at = now, self.num_timesteps

    def _maybe_evaluate(self) -> None:
        if self.num_timesteps >= self._next_evaluation:
            while self._next_evaluation <= self.num_timesteps:
                self._next_evaluation += self.cfg.eval.every
            if self.num_timesteps >= self.cfg.eval.start:
                self._evaluate()
            else:
                self._keep({})  # what a killed stage goes on from

    def _evaluate(self) -> None:
        if not self.null:
            self._evaluate_null()
        begun = time.perf_counter()
        metrics = self.evaluator.run(deterministic(self.model, self.env))  # type: ignore[arg-type]
        self.evaluation_seconds += time.perf_counter() - begun
        self._evaluated_at = self.num_timesteps
        self.passed = self.gate.update(metrics) or self.passed
        # the gate first: a slow run without a fall can be paid more than the fast one that passes
        rank = (self.gate.consecutive > 0, metrics["return_mean"] - metrics["return_std"])
        if rank > self._best_rank:
            self._best_rank, self.best_evaluation = rank, metrics
            bundle.save(self.run_dir / "bundle" / "best", self.model, self.env, self.cfg, metrics)
        self._rows.append(self._row("policy", metrics))
        checks = {f"gate/{c.key}": float(c.holds) for c in self.gate.checks(metrics)}
        self.tracker.log_metrics(
            {f"eval/{key}": value for key, value in metrics.items() if np.isfinite(value)}
            | checks
            | {"gate/consecutive": float(self.gate.consecutive)},
            self.num_timesteps,
        )
        self._keep(metrics)
        self.tracker.say(
            f"{self.num_timesteps:>10,} steps: return {metrics['return_mean']:.0f} ± {metrics['return_std']:.0f}, "
            f"length {metrics['length_mean']:.0f}, {metrics['forward_speed_mean_mps']:.2f} m/s, "
            f"falls {metrics['fall_rate']:.0%}, success {metrics['success_rate']:.0%}, gate {self.gate.state()}"
        )

    def _evaluate_null(self) -> None:
        begun = time.perf_counter()
        self.null = self.evaluator.null_policies()
        self.evaluation_seconds += time.perf_counter() - begun
        for name, metrics in self.null.items():
            self._rows.append(self._row(name, metrics))
            self.tracker.log_metrics(
                {f"eval/null.{name}.{key}": value for key, value in metrics.items() if np.isfinite(value)}, 0
            )
        if passing := self.null_passes():
            self.tracker.say(f"the gate proves nothing: the {' and the '.join(passing)} policy meets it too")

    def _keep(self, metrics: dict[str, float]) -> None:
        """Write what the stage can be gone on with: first what was to be tracked so far, then a bundle."""
        self.tracker.keep()
        resume.save(self.run_dir, self.model, self.env, self.raw, self.cfg, metrics, self.progress())  # type: ignore[arg-type]
        self._write_rows()

    def _row(self, policy: str, metrics: dict[str, float]) -> dict[str, Any]:
        return {"timesteps": self.num_timesteps, "policy": policy, "gate": self.gate.state(), **metrics}

    def _write_rows(self) -> None:
        if not self._rows:
            return
        building = self.run_dir / ".eval.csv"
        with building.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._rows[0])
            writer.writeheader()
            writer.writerows(self._rows)
        building.replace(self.run_dir / "eval.csv")


def _mean(ended: list[Episodes], name: str) -> float:
    return float(np.concatenate([getattr(e, name) for e in ended]).mean())
