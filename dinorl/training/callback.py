"""What happens in a stage besides gradient steps: metrics, ramp, evaluations, the gate, bundles."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.vec_env import VecNormalize

from dinorl.config import Config
from dinorl.envs.batch import Episodes
from dinorl.envs.vec_env import DinoVecEnv
from dinorl.evaluation.evaluator import Evaluator
from dinorl.provenance import seconds_since_start
from dinorl.tracking import Tracker
from dinorl.training import bundle
from dinorl.training.algorithms import entropy_schedule, ramp_weight
from dinorl.training.gate import MIN_EPISODES, Gate

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
        best_evaluation: metrics of the best bundle: highest mean return less one standard deviation.
        null: metrics of the null policies, ``{"zero": …, "random": …}``.
        passed: the gate was passed.

    Args:
        cfg: the composed config.
        run_dir: where bundles and eval.csv go.
        tracker: where metrics go.
        raw, env: the environment without and with normalisation.
        begun: ``time.perf_counter()`` when the stage began.
    """

    def __init__(
        self, cfg: Config, run_dir: Path, tracker: Tracker, raw: DinoVecEnv, env: VecNormalize, begun: float
    ) -> None:
        super().__init__()
        self.cfg, self.run_dir, self.tracker, self.raw, self.env = cfg, run_dir, tracker, raw, env
        self.evaluator = Evaluator(cfg)
        self.gate = Gate(cfg.curriculum)
        self.best_evaluation: dict[str, float] = {}
        self.null: dict[str, dict[str, float]] = {}
        self.passed = False
        self._best_score = -np.inf
        self._next_evaluation = cfg.eval.every
        self._evaluated_at = -1
        self._entropy = entropy_schedule(cfg)
        self._begun = begun
        self._reported = self._trains_since = time.perf_counter()
        self._recent: dict[str, float] = {}
        self._last: list[Episodes] = []
        self.evaluation_seconds = 0.0

    # Stable-Baselines3 calls these -----------------------------------------------------------------------------------

    def _on_training_start(self) -> None:
        self._apply_schedules()
        self._reported = self._trains_since = time.perf_counter()
        self.tracker.log_metrics(
            {
                "time/startup_s": self._reported - self._begun,  # of this stage
                "time/since_command_s": seconds_since_start(),  # stages before it in the same process included
            },
            0,
        )

    def _on_rollout_start(self) -> None:
        # PPO reads its entropy coefficient in the update, which comes right before the next rollout's start
        self._apply_schedules()

    def _on_step(self) -> bool:
        if time.perf_counter() - self._reported >= REPORT_EVERY:
            self._report()
        if isinstance(self.model, SAC):
            self._apply_schedules()
            return self._maybe_evaluate()
        return not self.passed

    def _on_rollout_end(self) -> None:
        if not isinstance(self.model, SAC):
            self._maybe_evaluate()

    # The rest is ours ------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Evaluate what training ended with, if that has not been done."""
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

    def _report(self) -> None:
        now = time.perf_counter()
        ended = self.raw.drain_episodes()
        rate = self.num_timesteps / max(now - self._trains_since - self.evaluation_seconds, 1e-9)
        metrics = {"time/steps_per_s": rate, "time/diverged": float(self.raw.batch.diverged)}
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
        self._reported = now

    def _policy(self, observation: np.ndarray) -> np.ndarray:
        action, _ = self.model.predict(self.env.normalize_obs(observation), deterministic=True)
        return action

    def _maybe_evaluate(self) -> bool:
        if self.num_timesteps >= self._next_evaluation:
            while self._next_evaluation <= self.num_timesteps:
                self._next_evaluation += self.cfg.eval.every
            self._evaluate()
        return not self.passed

    def _evaluate(self) -> None:
        if not self.null:
            self._evaluate_null()
        begun = time.perf_counter()
        metrics = self.evaluator.run(self._policy)
        self.evaluation_seconds += time.perf_counter() - begun
        self._evaluated_at = self.num_timesteps
        self.passed = self.gate.update(metrics) or self.passed
        score = metrics["return_mean"] - metrics["return_std"]
        if score > self._best_score:
            self._best_score, self.best_evaluation = score, metrics
            self._save("best", metrics)
        self._save(str(self.num_timesteps), metrics)
        bundle.prune(self.run_dir / "bundle", self.cfg.eval.keep)
        self._write_row("policy", metrics)
        checks = {f"gate/{c.key}": float(c.holds) for c in self.gate.checks(metrics)}
        self.tracker.log_metrics(
            {f"eval/{key}": value for key, value in metrics.items() if np.isfinite(value)}
            | checks
            | {"gate/consecutive": float(self.gate.consecutive)},
            self.num_timesteps,
        )
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
            self._write_row(name, metrics)
            self.tracker.log_metrics(
                {f"eval/null.{name}.{key}": value for key, value in metrics.items() if np.isfinite(value)}, 0
            )
        if passing := self.null_passes():
            self.tracker.say(f"the gate proves nothing: the {' and the '.join(passing)} policy meets it too")

    def _save(self, name: str, metrics: dict[str, float]) -> None:
        replay = self.cfg.algo.name == "sac" and self.cfg.sac.save_replay_buffer
        bundle.save(self.run_dir / "bundle" / name, self.model, self.env, self.cfg, metrics, replay)

    def _write_row(self, policy: str, metrics: dict[str, float]) -> None:
        path = self.run_dir / "eval.csv"
        row = {"timesteps": self.num_timesteps, "policy": policy, "gate": self.gate.state(), **metrics}
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)


def _mean(ended: list[Episodes], name: str) -> float:
    return float(np.concatenate([getattr(e, name) for e in ended]).mean())
