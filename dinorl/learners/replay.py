"""A replay buffer on disk, one segment between two bundles.

The whole buffer is too large to write with every bundle. A row is one step of the whole batch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer

from dinorl.files.run_folder import whole_file
from dinorl.files.untrusted import read_arrays
from dinorl.learners.base import Arrays

_FIELDS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


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
        np.savez(building, **{name: getattr(buffer, name)[rows] for name in _FIELDS})


def read(folder: Path, buffer: ReplayBuffer, added: int) -> Arrays:
    """Return the buffer's arrays as they were after ``added`` rows.

    Raises:
        ValueError: a segment is missing.
        ConfigError: a segment is damaged.
    """
    arrays = {name: np.zeros_like(getattr(buffer, name)) for name in _FIELDS}
    wanted = reached = max(0, added - buffer.buffer_size)
    for first, end, path in _segments(folder):
        if end <= wanted or end > added:
            continue
        if first > reached:
            break
        segment = read_arrays(path, largest=None)
        rows = np.arange(first, end) % buffer.buffer_size
        for name in _FIELDS:
            arrays[name][rows] = segment[name]
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


def _segments(folder: Path) -> list[tuple[int, int, Path]]:
    """Return first row, row after the last, and file of every segment, in order."""
    found = []
    for path in folder.glob("*-*.npz"):
        first, end = path.stem.split("-")
        found.append((int(first), int(end), path))
    return sorted(found)
