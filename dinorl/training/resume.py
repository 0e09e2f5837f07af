"""Resumes an interrupted stage from a bundle, bit for bit.

A numbered bundle also holds ``state.npz`` (physics, episodes, the algorithm's counters) and ``progress.json`` (gate,
best so far, evaluations). Bundles are written between an update and the next rollout, when an on-policy algorithm has
no rollout left to save. Replay buffers lie beside the bundles, in ``replay/``.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dinorl.bundle import write
from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import numbered
from dinorl.config import Config, ConfigError
from dinorl.config.identity import identity
from dinorl.config.species import same_model
from dinorl.files.run_folder import BundleFolder, RunFolder, tidy
from dinorl.files.untrusted import read_config, read_json
from dinorl.learners.base import Learner

log = logging.getLogger(__name__)

STATE, PROGRESS = "state", "progress"
SCHEDULED = "scheduled"
# Errors of a damaged bundle.
_UNREADABLE = (OSError, ValueError, KeyError)


def save(
    run_dir: Path, learner: Learner, cfg: Config, evaluation: Mapping[str, Any], progress: Mapping[str, Any],
    scheduled: bool = True,
) -> None:  # fmt: skip
    """Write a resumable numbered bundle and delete the oldest.

    Args:
        run_dir: the stage's run folder.
        learner, cfg: of the stage.
        evaluation: metrics of the current policy; empty if not evaluated.
        progress: state of the stage, as JSON.
        scheduled: False for an interrupt's bundle, which the next scheduled one replaces.
    """
    folder, replay = RunFolder(run_dir).bundles, RunFolder(run_dir).replay
    more: dict[str, Any] = {}
    if learner.resumable:
        more = {"arrays": {STATE: learner.position()}, "texts": {PROGRESS: {**progress, SCHEDULED: scheduled}}}
        learner.save_experience(replay)
    write.save(folder / str(learner.timesteps), learner, cfg, evaluation, **more)
    if scheduled:
        _drop_interrupts(folder)
        write.prune(folder, cfg.eval.keep)
    if learner.resumable:
        learner.trim_experience(replay, int(numbered(folder)[-1].name))


def _drop_interrupts(folder: Path) -> None:
    """Delete the bundles that interrupts left, so that the same ones are kept as without them."""
    for path in numbered(folder):
        with suppress(*_UNREADABLE):
            if not read_json(BundleFolder(path).progress).get(SCHEDULED, True):
                shutil.rmtree(path)


def resume(run_dir: Path, learner: Learner, cfg: Config) -> dict[str, Any] | None:
    """Load the newest complete bundle of the same config, ancestors and animal.

    Returns:
        Its progress; None if there is no such bundle, and the learner is unchanged.

    Raises:
        ConfigError: there are bundles, but none can be read.
    """
    run = RunFolder(run_dir)
    for folder in (run.bundles, run.replay):
        tidy(folder)
    damage: Exception | None = None
    for path in numbered(run.bundles):
        files = BundleFolder(path)
        if not files.state.is_file():
            continue
        try:
            bundle = Bundle(path).following(cfg.species)
            if not same_model(bundle.meta["mjcf_sha256"], cfg.species) or identity(bundle.config) != identity(cfg):
                continue
            position = bundle.arrays(STATE, largest=None)
            progress = read_json(files.progress)
            arrays = bundle.learner_files()
            experience = learner.read_experience(run.replay, int(position["algorithm/num_timesteps"]))
        except _UNREADABLE as error:
            log.warning("%s is damaged (%s: %s); the one before it is used", path, type(error).__name__, error)
            damage = error
            continue
        learner.load(arrays)
        learner.restore(position, experience)
        if bundle.config.env != cfg.env:  # returns under other weights do not compare
            progress["best_rank"] = [False, None]
        return progress
    if damage is not None:
        raise ConfigError(
            f"{run_dir}: none of its bundles can be resumed from ({damage}). Mend that and give the same command "
            "again, or delete the folder to train the stage from its beginning"
        )
    return None


def take_over(run_dir: Path, source: Path, tracking: Mapping[str, Any]) -> None:
    """Replace what a run resumes from by another run's; the bundles say then whose they are.

    Call it again after a kill: it is not atomic.

    Args:
        run_dir: of the run that will resume.
        source: folder of a paused run of the same stage, animal and network.
        tracking: node of the config of the run that will resume.
    """
    ours, theirs = RunFolder(run_dir), RunFolder(source)
    for old, new in ((ours.bundles, theirs.bundles), (ours.replay, theirs.replay)):
        shutil.rmtree(old, ignore_errors=True)
        if new.is_dir():
            tidy(new)
            shutil.copytree(new, old)
    for folder in map(BundleFolder, ours.bundles.iterdir()):
        config = read_config(folder.config)
        config.tracking = tracking
        OmegaConf.save(config, folder.config)


def clear(run_dir: Path) -> None:
    """Delete the files of an earlier, different attempt from a run folder."""
    run = RunFolder(run_dir)
    for folder in (run.bundles, run.replay, run.faults):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (run.eval_csv, run.null_policies, run.video, run.evaluation):
        file.unlink(missing_ok=True)


def finish(run_dir: Path) -> None:
    """Delete files that only resuming needs, once the stage's status is DONE."""
    run = RunFolder(run_dir)
    shutil.rmtree(run.replay, ignore_errors=True)
    for folder in map(BundleFolder, run.bundles.iterdir()):
        for file in (folder.state, folder.progress):
            file.unlink(missing_ok=True)
