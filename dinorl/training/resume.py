"""Resumes an interrupted stage exactly where one of its bundles was written: the rest is the same to the last bit.

A numbered bundle then also holds ``state.npz`` (physics, episodes, the algorithm's counters) and ``progress.json``
(gate, best so far, evaluations). Bundles are written between an update and the next rollout, when an on-policy
algorithm has used up its rollout. Experience that outlives an update lies beside the bundles, in ``replay/``.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinorl.bundle import write
from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import numbered
from dinorl.config import Config, ConfigError
from dinorl.config.identity import identity
from dinorl.config.species import mjcf_hash
from dinorl.files.untrusted import read_json
from dinorl.learners.base import Learner

log = logging.getLogger(__name__)

STATE, PROGRESS, REPLAY = "state", "progress", "replay"
# What reading a damaged bundle may raise.
_UNREADABLE = (OSError, ValueError, KeyError)


def save(
    run_dir: Path, learner: Learner, cfg: Config, evaluation: Mapping[str, Any], progress: Mapping[str, Any]
) -> None:
    """Write a numbered bundle from which the stage can resume, and delete the oldest.

    Args:
        run_dir: the stage's run folder.
        learner, cfg: of the stage.
        evaluation: metrics of the policy as it is now, empty if it was not evaluated.
        progress: what the stage itself must know again; JSON.
    """
    folder, replay = run_dir / "bundle", run_dir / REPLAY
    more: dict[str, Any] = {}
    if learner.resumable:
        more = {"arrays": {STATE: learner.position()}, "texts": {PROGRESS: progress}}
        learner.save_experience(replay)
    write.save(folder / str(learner.timesteps), learner, cfg, evaluation, **more)
    write.prune(folder, cfg.eval.keep)
    if learner.resumable:
        learner.trim_experience(replay, int(numbered(folder)[-1].name))


def resume(run_dir: Path, learner: Learner, cfg: Config) -> dict[str, Any] | None:
    """Load the newest bundle that is whole and of the same config, ancestors and animal.

    Returns:
        Its progress, or None if there is no such bundle; the learner is untouched then.

    Raises:
        ConfigError: there are some, and none of them can be read.
    """
    for folder in (run_dir / "bundle", run_dir / REPLAY):
        write.tidy(folder)
    damage: Exception | None = None
    for path in numbered(run_dir / "bundle"):
        if not (path / f"{STATE}.npz").is_file():
            continue
        bundle = Bundle(path)
        try:
            if identity(bundle.config) != identity(cfg) or bundle.meta["mjcf_sha256"] != mjcf_hash(cfg.species):
                continue
            position = bundle.arrays(STATE, largest=None)
            progress = read_json(path / f"{PROGRESS}.json")
            files = bundle.learner_files()
            experience = learner.read_experience(run_dir / REPLAY, int(position["algorithm/num_timesteps"]))
        except _UNREADABLE as error:
            log.warning("%s is damaged (%s: %s); the one before it is used", path, type(error).__name__, error)
            damage = error
            continue
        learner.load(files)
        learner.restore(position, experience)
        return progress
    if damage is not None:
        raise ConfigError(
            f"{run_dir}: none of its bundles can be resumed from ({damage}). Mend that and give the same command "
            "again, or delete the folder to train the stage from its beginning"
        )
    return None


def clear(run_dir: Path) -> None:
    """Delete what an earlier, different attempt left in a run folder, and what was measured of it."""
    for name in ("bundle", REPLAY, "faults"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    for name in ("eval.csv", "video.mp4", "evaluation.json"):
        (run_dir / name).unlink(missing_ok=True)


def finish(run_dir: Path) -> None:
    """Delete what only an unfinished stage needs, once its status says that it is done."""
    shutil.rmtree(run_dir / REPLAY, ignore_errors=True)
    for folder in (run_dir / "bundle").iterdir():
        for name in (f"{STATE}.npz", f"{PROGRESS}.json"):
            (folder / name).unlink(missing_ok=True)
