"""Goes on with an interrupted stage exactly where one of its bundles was written: the rest is the same, to the bit.

A numbered bundle then holds ``state.npz`` (physics, episodes, the algorithm's counters) and ``progress.json`` (gate,
best so far, evaluations) besides what every bundle holds. Bundles are written between an update and the next
rollout, when PPO's rollout buffer is spent. SAC's replay buffer is too large to be written whole each time: it lies
beside the bundles as segments, each of which holds what was gathered between two of them.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from dinorl.bundle import bundle
from dinorl.bundle.locate import numbered
from dinorl.config import Config, ConfigError
from dinorl.config.identity import identity
from dinorl.config.species import mjcf_hash
from dinorl.files.untrusted import read_arrays, read_json
from dinorl.learners.algorithms import StagePPO, StageSAC
from dinorl.learners.vec_env import DinoVecEnv

log = logging.getLogger(__name__)

STATE, PROGRESS, REPLAY = "state.npz", "progress.json", "replay"
_REPLAY_FIELDS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
# What a bundle that was damaged or cut short may raise when it is read.
_UNREADABLE = (OSError, ValueError, KeyError)


def save(
    run_dir: Path, model: StagePPO | StageSAC, env: VecNormalize, raw: DinoVecEnv, cfg: Config,
    evaluation: Mapping[str, Any], progress: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write a numbered bundle that the stage can be gone on with, and delete the oldest.

    Args:
        run_dir: the stage's run folder.
        model, env, raw, cfg: of the stage.
        evaluation: metrics of the policy as it is now, empty if it was not evaluated.
        progress: what the stage's callback must know again; JSON.
    """
    folder = run_dir / "bundle"
    more: dict[str, Any] = {}
    if isinstance(model, StagePPO) or cfg.sac.save_replay_buffer:
        more = {"arrays": {STATE: _state(model, raw)}, "texts": {PROGRESS: progress}}
    replay = model.replay_buffer if more and isinstance(model, StageSAC) else None
    if replay is not None:
        _save_replay(run_dir / REPLAY, replay, model.num_timesteps // raw.num_envs)
    bundle.save(folder / str(model.num_timesteps), model, env, cfg, evaluation, **more)
    bundle.prune(folder, cfg.eval.keep)
    if replay is not None:
        oldest = int(numbered(folder)[-1].name) // raw.num_envs
        for _, end, path in _segments(run_dir / REPLAY):
            if end <= oldest - replay.buffer_size:
                path.unlink()


def go_on(
    run_dir: Path, model: StagePPO | StageSAC, env: VecNormalize, raw: DinoVecEnv, cfg: Config
) -> dict[str, Any] | None:
    """Put an interrupted stage back to its newest bundle that is whole and of the same config, ancestors and animal.

    Returns:
        Its progress, or None if the stage has no bundle to go on with; then nothing has been touched.

    Raises:
        ConfigError: it has some, and none of them can be read.
    """
    _tidy(run_dir)
    damage: Exception | None = None
    for candidate in numbered(run_dir / "bundle"):
        if not (candidate / STATE).is_file():
            continue
        try:
            if identity(bundle.load_config(candidate)) != identity(cfg):
                continue
            if bundle.load_meta(candidate)["mjcf_sha256"] != mjcf_hash(cfg.species):
                continue
            arrays = read_arrays(candidate / STATE, largest=None)
            progress = read_json(candidate / PROGRESS)
            bundle.check(candidate)
            added = int(arrays["algorithm/num_timesteps"]) // raw.num_envs
            replay = _load_replay(run_dir / REPLAY, model.replay_buffer, added) if isinstance(model, StageSAC) else {}
        except _UNREADABLE as error:
            log.warning("%s is damaged (%s: %s); the one before it is used", candidate, type(error).__name__, error)
            damage = error
            continue
        bundle.load_all(candidate, model, env)
        _restore(model, raw, arrays)
        for name, rows in replay.items():
            getattr(model.replay_buffer, name)[...] = rows  # type: ignore[union-attr]  # only SAC's is not empty
        return progress
    if damage is not None:
        raise ConfigError(
            f"{run_dir}: none of its bundles can be gone on with ({damage}). Mend that and give the same command "
            "again, or delete the folder, and the stage is trained from its beginning"
        )
    return None


def _tidy(run_dir: Path) -> None:
    """Delete what was being written when the process was killed, and put back what was being replaced."""
    for path in [*(run_dir / "bundle").glob(".*"), *(run_dir / REPLAY).glob(".*")]:
        replaced, _, _ = path.name.removeprefix(".").partition("-old-")
        if path.name.startswith(f".{replaced}-old-") and not (path.parent / replaced).exists():
            path.rename(path.parent / replaced)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def clear(run_dir: Path) -> None:
    """Delete what an earlier, different attempt left in a run folder, and what was measured of it."""
    for name in ("bundle", REPLAY, "faults"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    for name in ("eval.csv", "video.mp4", "evaluation.json"):
        (run_dir / name).unlink(missing_ok=True)


def finish(run_dir: Path) -> None:
    """Delete what only an unfinished stage needs, once it is written down that the stage is done."""
    shutil.rmtree(run_dir / REPLAY, ignore_errors=True)
    for folder in (run_dir / "bundle").iterdir():
        for name in (STATE, PROGRESS):
            (folder / name).unlink(missing_ok=True)


def _state(model: StagePPO | StageSAC, raw: DinoVecEnv) -> dict[str, np.ndarray]:
    own = {
        "num_timesteps": model.num_timesteps,
        "updates": model._n_updates,
        "episode_num": model._episode_num,
        "last_obs": model._last_obs,
        "last_original_obs": model._last_original_obs,
        "last_episode_starts": model._last_episode_starts,
    }
    return {f"algorithm/{key}": np.asarray(value) for key, value in own.items()} | {
        f"batch/{key}": value for key, value in raw.batch.state().items()
    }


def _restore(model: StagePPO | StageSAC, raw: DinoVecEnv, arrays: Mapping[str, np.ndarray]) -> None:
    raw.batch.restore({key.removeprefix("batch/"): value for key, value in arrays.items() if key.startswith("batch/")})
    own = {key.removeprefix("algorithm/"): value for key, value in arrays.items() if key.startswith("algorithm/")}
    model.num_timesteps = int(own["num_timesteps"])
    model._n_updates = int(own["updates"])
    model._episode_num = int(own["episode_num"])
    model._last_obs = own["last_obs"]
    model._last_original_obs = own["last_original_obs"]
    model._last_episode_starts = own["last_episode_starts"]
    if isinstance(model, OffPolicyAlgorithm):
        buffer = model.replay_buffer
        assert isinstance(buffer, ReplayBuffer)
        added = model.num_timesteps // raw.num_envs
        buffer.pos, buffer.full = added % buffer.buffer_size, added >= buffer.buffer_size


def _segments(folder: Path) -> list[tuple[int, int, Path]]:
    """Return first row, row after the last, and file of every segment, in order; a row is a step of the whole batch."""
    found = []
    for path in folder.glob("*-*.npz"):
        first, end = path.stem.split("-")
        found.append((int(first), int(end), path))
    return sorted(found)


def _save_replay(folder: Path, buffer: ReplayBuffer, added: int) -> None:
    """Write what was added since the last segment; ``added`` counts all steps of the batch so far."""
    folder.mkdir(exist_ok=True)
    for _, end, path in _segments(folder):  # of an attempt that came further before it was interrupted
        if end > added:
            path.unlink()
    begin = max([added - buffer.buffer_size, 0, *(end for _, end, _ in _segments(folder))])
    if begin == added:
        return
    rows = np.arange(begin, added) % buffer.buffer_size
    building = folder / f".{begin}-{added}.npz"
    np.savez(building, **{name: getattr(buffer, name)[rows] for name in _REPLAY_FIELDS})
    os.replace(building, folder / f"{begin}-{added}.npz")


def _load_replay(folder: Path, buffer: ReplayBuffer | None, added: int) -> dict[str, np.ndarray]:
    """Return the arrays of a replay buffer like this one as they were after ``added`` steps of the batch.

    Raises:
        ValueError: a segment is missing.
    """
    assert buffer is not None
    arrays = {name: np.zeros_like(getattr(buffer, name)) for name in _REPLAY_FIELDS}
    wanted = reached = max(0, added - buffer.buffer_size)
    for first, end, path in _segments(folder):
        if end <= wanted or end > added:
            continue
        if first > reached:
            break
        segment = read_arrays(path, largest=None)
        rows = np.arange(first, end) % buffer.buffer_size
        for name in _REPLAY_FIELDS:
            arrays[name][rows] = segment[name]
        reached = end
    if reached != added:
        raise ValueError(f"of the replay buffer in {folder} the steps from {reached} to {added} are missing")
    return arrays
