"""One stage: trains until the gate is passed or the budget is spent, and leaves a bundle."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinorl.bundle import pyfunc
from dinorl.bundle.bundle import Bundle
from dinorl.bundle.film import film
from dinorl.config import MIN_EPISODES, POLICY_HANDED_OVER, Config
from dinorl.files.run_folder import RunFolder, write_json
from dinorl.learners.base import Learner, make_learner
from dinorl.sim.devices import where
from dinorl.tracking.describe import stage_note
from dinorl.tracking.listener import Listener, Listeners
from dinorl.training import ramps, resume
from dinorl.training.follow import Follower
from dinorl.training.gate import PASSED as PASSED_GATE
from dinorl.training.interrupt import Interruption

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageResult:
    """Result of a stage."""

    gate: str  # verdict, see Follower.verdict
    timesteps: int
    seconds: float
    bundle: Path  # the best evaluated
    evaluation: dict[str, float] = field(default_factory=dict)  # of that bundle


def run_stage(
    cfg: Config, run_dir: Path, listeners: Iterable[Listener] = (), interruption: Interruption | None = None
) -> StageResult:
    """Train the stage of a composed config; with ``cfg.resume``, resume an interrupted one.

    Files that resuming needs stay in the folder until :func:`dinorl.training.resume.finish`.

    Args:
        cfg: the composed config; ``cfg.warm_start`` names the bundle to start from, if any.
        run_dir: folder for ``bundle/``, ``eval.csv`` and ``video.mp4``.
        listeners: receive metrics; one may stop the stage.
        interruption: polled for a request to stop.

    Raises:
        Interrupted: the interruption requested it.
        ConfigError: the warm-start bundle does not fit, or no bundle to resume from can be read.
    """
    begun = time.perf_counter()
    listener = Listeners(listeners)
    run = RunFolder(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    learner = make_learner(cfg)
    learner.batch.push_scale = cfg.curriculum.push_scale
    follower = Follower(cfg, run_dir, learner, listener, interruption or Interruption(), begun)
    progress = resume.resume(run_dir, learner, cfg) if cfg.resume else None
    if progress is not None:
        follower.resume(progress)
        listener.say(f"resumes at {learner.timesteps:,} steps")
    else:
        resume.clear(run_dir)
        if cfg.warm_start is not None:
            _warm_start(cfg, learner, listener)
    _announce(cfg, learner, listener)
    ramps.apply(cfg, learner.batch, learner.timesteps)  # before the first reset

    left = cfg.curriculum.timesteps - learner.timesteps
    if left > 0 and not (follower.passed or follower.stopped):
        learner.learn(left, follower)
    follower.finish()

    best = Bundle.open(run.best)
    seconds = follower.seconds()
    follower.report_time(seconds)
    write_json(run.null_policies, follower.null)
    for file in (run.eval_csv, run.null_policies):
        listener.log_artifact(file)
    listener.log_artifact(best.path, "bundle")
    if not follower.stopped:
        listener.log_model(best.path, _model(cfg, best, follower))
    verdict = f"{follower.verdict()} after {learner.timesteps:,} steps in {seconds / 60.0:.1f} minutes"
    listener.note(stage_note(cfg, verdict, follower.best.metrics, follower.null, run_dir))
    if cfg.eval.video_seconds > 0.0:
        try:
            listener.log_artifact(film(best, run.video, cfg.eval.video_seconds))
        except (RuntimeError, OSError) as error:  # no OpenGL or disk full: no film
            log.warning("no film: %s", error)
            listener.say(f"no film: {error}")
    learner.close()
    return StageResult(follower.verdict(), learner.timesteps, seconds, best.path, follower.best.metrics)


def _model(cfg: Config, best: Bundle, follower: Follower) -> dict[str, Any]:
    """Return what MLflow needs to register the best bundle, which is ranked by verdict, gate and return."""
    verdict = follower.verdict()
    tags = {
        "species": cfg.species.name, "stage": cfg.stage.name, "algo": cfg.algo.name, "seed": str(cfg.seed),
        "gate": verdict, "mjcf_sha256": best.meta["mjcf_sha256"],
    }  # fmt: skip
    return pyfunc.describe(best, int(follower.learner.batch.action_space.shape[0])) | {
        "name": f"{cfg.species.name}-{cfg.stage_label}", "step": best.meta["timesteps"], "tags": tags,
        "rank": [verdict == PASSED_GATE, *follower.best.rank],
        "description": f"{cfg.species.title}: observations to actions of stage {cfg.stage.index}, {cfg.stage_label}. "
        "The alias best moves to a bundle that passed its gate, then to one with more return less a deviation.",
    }  # fmt: skip


def _warm_start(cfg: Config, learner: Learner, listeners: Listeners) -> None:
    assert cfg.warm_start is not None
    what = cfg.curriculum.hand_over
    if what == "nothing":
        listeners.say("starts from scratch")
        return
    bundle = Bundle.open(cfg.warm_start)
    bundle.warm_start(learner, what)
    if cfg.curriculum.handover_log_std is not None and what in POLICY_HANDED_OVER:
        learner.explore(cfg.curriculum.handover_log_std)
    listeners.say(f"starts from {bundle}" if what == "all" else f"starts from {bundle} ({what})")


def _announce(cfg: Config, learner: Learner, listeners: Listeners) -> None:
    batch = learner.batch
    terms = ", ".join(f"{name} {weight:g}" for name, weight in batch.task.active().items())
    listeners.say(
        f"{batch.n} animals, {cfg.curriculum.timesteps:,} steps; {where(cfg.sim, cfg.algo)}; rewards: {terms}"
    )
    lines, constants = learner.describe()
    for line in lines:
        listeners.say(line)
    if constants:
        listeners.log_metrics(constants, 0)
    if cfg.eval.episodes < MIN_EPISODES:
        listeners.say(f"eval.episodes={cfg.eval.episodes}: with fewer than {MIN_EPISODES} nothing is proven")
