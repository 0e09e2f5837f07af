"""The replay buffer: minibatches from it, and its segments on disk, one between two bundles.

The whole buffer is too large to write with every bundle. A row is one step of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from dinorl.files.run_folder import whole_file
from dinorl.files.untrusted import read_arrays
from dinorl.learners.base import Arrays

_FIELDS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "ramped")


class RampedReplayBuffer(NStepReplayBuffer):
    """A replay buffer whose old rewards follow a ramp: it keeps the ramped term apart.

    Args:
        term: returns the last step's unweighted term, (n_envs,), and the term's weight now.
    """

    def __init__(self, *args: Any, term: Callable[[], tuple[np.ndarray, float]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._term = term
        self.ramped = np.zeros_like(self.rewards)

    @property
    def weight(self) -> float:
        """The weight of the ramped term now."""
        return self._term()[1]

    def add(
        self, obs: np.ndarray, next_obs: np.ndarray, action: np.ndarray, reward: np.ndarray, done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        """Add a step of the batch."""
        term, weight = self._term()
        self.ramped[self.pos] = term
        super().add(obs, next_obs, action, reward - weight * term, done, infos)


class Minibatch(NamedTuple):
    """Normalised transitions over up to ``n_steps`` steps."""

    observations: torch.Tensor  # (batch, obs)
    actions: torch.Tensor  # (batch, actuators)
    returns: torch.Tensor  # (batch,) discounted rewards
    discounts: torch.Tensor  # (batch,) of the value at next_observations; 0 after a fall or the event
    next_observations: torch.Tensor  # (batch, obs)


def minibatches(
    buffer: ReplayBuffer, env: VecNormalize, count: int, size: int, device: torch.device
) -> Iterator[Minibatch]:
    """Yield random minibatches, gathered in one pass.

    The same transitions as :class:`stable_baselines3.common.buffers.NStepReplayBuffer`'s: a return ends with its
    episode, or at the newest step.

    Args:
        buffer: the replay buffer.
        env: its running statistics normalise observations and rewards.
        count: minibatches.
        size: transitions in each.
        device: of the tensors.
    """
    n = buffer.n_steps if isinstance(buffer, NStepReplayBuffer) else 1
    filled = buffer.buffer_size if buffer.full else buffer.pos
    step = np.random.randint(0, filled, count * size)
    animal = np.random.randint(0, buffer.n_envs, count * size)
    window, own = (step[:, None] + np.arange(n)) % buffer.buffer_size, animal[:, None]
    ends = (buffer.dones[window, own] > 0) | (window == (buffer.pos - 1) % buffer.buffer_size)
    steps = np.where(ends.any(axis=1), ends.argmax(axis=1), n - 1)
    last = window[np.arange(step.size), steps]

    gammas = (env.gamma ** np.arange(n + 1)).astype(np.float32)
    rewards = buffer.rewards[window, own]
    if isinstance(buffer, RampedReplayBuffer):
        rewards = rewards + buffer.weight * buffer.ramped[window, own]
    rewards = env.normalize_reward(rewards)
    returns = (rewards * gammas[:n] * (np.arange(n) <= steps[:, None])).sum(axis=1, dtype=np.float32)
    ended = buffer.dones[last, animal] * (1.0 - buffer.timeouts[last, animal])
    arrays = (
        env.normalize_obs(buffer.observations[step, animal]),
        buffer.actions[step, animal],
        returns,
        (1.0 - ended) * gammas[steps + 1],
        env.normalize_obs(buffer.next_observations[last, animal]),
    )
    tensors = [torch.from_numpy(array).to(device) for array in arrays]
    for parts in zip(*(torch.split(tensor, size) for tensor in tensors), strict=True):
        yield Minibatch(*parts)


def save(folder: Path, buffer: ReplayBuffer, added: int) -> None:
    """Write the rows since the last segment; ``added`` counts all rows so far."""
    folder.mkdir(exist_ok=True)
    for _, end, path in _segments(folder):  # of an earlier, longer attempt
        if end > added:
            path.unlink()
    begin = max([added - buffer.buffer_size, 0, *(end for _, end, _ in _segments(folder))])
    if begin == added:
        return
    rows = np.arange(begin, added) % buffer.buffer_size
    with whole_file(folder / f"{begin}-{added}.npz") as building:
        np.savez(building, **{name: array[rows] for name, array in _arrays(buffer).items()})


def read(folder: Path, buffer: ReplayBuffer, added: int) -> Arrays:
    """Return the buffer's arrays as they were after ``added`` rows.

    Raises:
        ValueError: a segment is missing.
        ConfigError: a segment is damaged.
    """
    arrays = {name: np.zeros_like(array) for name, array in _arrays(buffer).items()}
    wanted = reached = max(0, added - buffer.buffer_size)
    for first, end, path in _segments(folder):
        if end <= wanted or end > added:
            continue
        if first > reached:
            break
        segment = read_arrays(path, largest=None)
        rows = np.arange(first, end) % buffer.buffer_size
        for name, array in arrays.items():
            array[rows] = segment[name]
        reached = end
    if reached != added:
        raise ValueError(f"the replay buffer in {folder} lacks the steps from {reached} to {added}")
    return arrays


def load(buffer: ReplayBuffer, arrays: Arrays, added: int) -> None:
    """Put the arrays of :func:`read` into a buffer."""
    for name, rows in arrays.items():
        getattr(buffer, name)[...] = rows
    buffer.pos, buffer.full = added % buffer.buffer_size, added >= buffer.buffer_size


def trim(folder: Path, buffer: ReplayBuffer, oldest: int) -> None:
    """Delete segments that a buffer of ``oldest`` rows no longer holds."""
    for _, end, path in _segments(folder):
        if end <= oldest - buffer.buffer_size:
            path.unlink()


def _arrays(buffer: ReplayBuffer) -> dict[str, Any]:
    return {name: getattr(buffer, name) for name in _FIELDS if hasattr(buffer, name)}


def _segments(folder: Path) -> list[tuple[int, int, Path]]:
    """Return first row, row after the last, and file of every segment, in order."""
    found = []
    for path in folder.glob("*-*.npz"):
        first, end = path.stem.split("-")
        found.append((int(first), int(end), path))
    return sorted(found)
