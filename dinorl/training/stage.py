"""One stage: train until the gate is passed or the budget is spent, evaluate on the way, leave a bundle."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger

from dinorl.bundle import bundle
from dinorl.bundle.film import film
from dinorl.bundle.locate import resolve
from dinorl.config import MIN_EPISODES, Config
from dinorl.learners.algorithms import (
    StagePPO,
    StageSAC,
    bearing_scale,
    episode_steps,
    make_model,
    replay_ratio,
    wrapped,
)
from dinorl.learners.vec_env import DinoVecEnv
from dinorl.tracking.tracker import Tracker
from dinorl.training import resume
from dinorl.training.follow import StageCallback, TrackerOutput
from dinorl.training.interrupt import Interruption

log = logging.getLogger(__name__)

# Training animals are seeded from here on, far from any evaluation seed: cfg.seed 0, 1, … have a block of seeds each.
TRAINING_SEEDS = 1 << 40
SEEDS_PER_RUN = 1 << 20


@dataclass(frozen=True)
class StageResult:
    """What a stage came to."""

    gate: str  # passed | not proven | advanced_on_budget | stopped_on_budget
    timesteps: int
    seconds: float
    bundle: Path  # the best evaluated
    evaluation: dict[str, float] = field(default_factory=dict)  # of that bundle


def run_stage(
    cfg: Config, run_dir: Path, tracker: Tracker, interruption: Interruption | None = None
) -> StageResult:  # fmt: skip
    """Train the stage of a composed config; with ``cfg.resume``, go on with what an interrupted one left.

    Args:
        cfg: the composed config; ``cfg.warm_start`` names the bundle that hands over, if any.
        run_dir: where ``bundle/``, ``eval.csv`` and ``video.mp4`` go.
        tracker: where metrics go.
        interruption: asked now and then whether to go on.

    Raises:
        Interrupted: it said no.
        ConfigError: the bundle to start from does not fit, or those to go on with cannot be read.

    What going on with it needs is left in the folder: :func:`dinorl.training.resume.finish` deletes it.
    """
    begun = time.perf_counter()
    interruption = interruption or Interruption()
    run_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(cfg.sim.threads or cpu_count())
    raw = DinoVecEnv(cfg, stagger=True)
    raw.batch.push_scale = cfg.curriculum.push_scale
    raw.batch.bearing_scale = bearing_scale(cfg, 0)  # the callback ramps it, and the next
    raw.batch.max_episode_steps = episode_steps(cfg, 0)
    env = wrapped(cfg, raw)
    model = make_model(cfg, env)
    env.seed(TRAINING_SEEDS + cfg.seed * SEEDS_PER_RUN)  # Stable-Baselines3 gave the animals cfg.seed, cfg.seed + 1, …
    model.set_logger(Logger(folder=None, output_formats=[TrackerOutput(tracker)]))
    callback = StageCallback(cfg, run_dir, tracker, raw, env, begun, interruption)
    progress = resume.go_on(run_dir, model, env, raw, cfg) if cfg.resume else None
    if progress is not None:
        callback.go_on(progress, model)
        tracker.say(f"goes on from {model.num_timesteps:,} steps")
    else:
        resume.clear(run_dir)
    if progress is None and cfg.warm_start is not None:
        source = resolve(cfg.warm_start)
        bundle.load_policy(source, model, env)
        if cfg.curriculum.handover_log_std is not None:
            model.explore(cfg.curriculum.handover_log_std)
        tracker.say(f"starts from {source}")
    _announce(cfg, raw, model, tracker)

    left = cfg.curriculum.timesteps - model.num_timesteps
    if left > 0 and not callback.passed:
        model.learn(total_timesteps=left, callback=callback, reset_num_timesteps=progress is None)
    callback.finish()

    best = resolve(run_dir / "bundle" / "best")
    verdict = callback.verdict()
    seconds = callback.seconds_before + time.perf_counter() - begun
    callback.report_time(seconds)
    tracker.log_artifact(run_dir / "eval.csv")
    tracker.log_artifact(best, "bundle")
    if cfg.eval.video_seconds > 0.0:
        try:
            tracker.log_artifact(film(best, run_dir / "video.mp4", cfg.eval.video_seconds))
        except (RuntimeError, OSError) as error:  # no OpenGL, no room on the disk: the stage is worth no less
            log.warning("no film: %s", error)
            tracker.say(f"no film: {error}")
    raw.close()
    return StageResult(verdict, model.num_timesteps, seconds, best, callback.best_evaluation)


def _announce(cfg: Config, env: DinoVecEnv, model: StagePPO | StageSAC, tracker: Tracker) -> None:
    terms = ", ".join(f"{name} {weight:g}" for name, weight in env.batch.task.active().items())
    tracker.say(f"{env.num_envs} animals, {cfg.curriculum.timesteps:,} steps; rewards: {terms}")
    if isinstance(model, StageSAC):
        tracker.say(f"replay ratio {replay_ratio(cfg):g} gradient steps per environment step")
        buffer = model.replay_buffer
        assert isinstance(buffer, ReplayBuffer)
        size = sum(array.nbytes for array in vars(buffer).values() if isinstance(array, np.ndarray))
        tracker.say(f"replay buffer {buffer.buffer_size * env.num_envs:,} steps, {size / 2**20:,.0f} MiB")
        tracker.log_metrics({"time/replay_ratio": replay_ratio(cfg)}, 0)
    if cfg.eval.episodes < MIN_EPISODES:
        tracker.say(f"eval.episodes={cfg.eval.episodes}: with fewer than {MIN_EPISODES} nothing is proven")
