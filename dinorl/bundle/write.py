"""Writes bundles atomically; keeps the newest and the best."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from dinorl.bundle.locate import numbered
from dinorl.config import Config, to_container
from dinorl.files.provenance import git_sha, versions
from dinorl.files.run_folder import BundleFolder, as_json, whole_folder
from dinorl.learners.base import Arrays, Learner

FORMAT = 1


def save(
    folder: Path, learner: Learner, cfg: Config, evaluation: Mapping[str, Any],
    arrays: Mapping[str, Arrays] | None = None, texts: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write a bundle atomically; it replaces an older one.

    Args:
        folder: of the bundle.
        learner: to save.
        cfg: the composed config.
        evaluation: metrics of the current policy; empty if not evaluated.
        arrays, texts: more .npz and JSON files, by name.
    """
    with whole_folder(folder) as building:
        for name, content in (learner.state() | dict(arrays or {})).items():
            np.savez(building / f"{name}.npz", **content)  # type: ignore[arg-type]
        for name, text in (texts or {}).items():
            (building / f"{name}.json").write_text(as_json(text), encoding="utf-8")
        files = BundleFolder(building)
        OmegaConf.save(OmegaConf.create(to_container(cfg)), files.config)
        files.meta.write_text(as_json(_meta(learner, cfg, evaluation), indent=2), encoding="utf-8")
    return folder


def _meta(learner: Learner, cfg: Config, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "species": cfg.species.name,
        "stage": cfg.stage.name,
        "algo": cfg.algo.name,
        "seed": cfg.seed,
        "timesteps": learner.timesteps,
        "updates": learner.updates,
        "evaluation": dict(evaluation),
        "mjcf_sha256": learner.batch.animal.identity,
        "git_sha": git_sha(),
        "versions": versions(),
    }


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` numbered bundles of a ``bundle`` folder."""
    for old in numbered(folder)[keep:]:
        shutil.rmtree(old)
