"""One animal's task, compiled: a step is judged in a fifth of NumPy's time, with the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dinorl.envs.task import Judgement, Task
from dinorl.tasks.signals import Memory, Signals
from dinorl.tasks.trace import Program

_TYPES = (np.dtype(np.float64), np.dtype(np.int64))


class Given(NamedTuple):
    """Copies of what a step was judged from; most steps are never looked at again."""

    alone: Alone
    packed: list[np.ndarray]
    physics: list[np.ndarray]

    def signals(self) -> Signals:
        """Measure the step's signals."""
        alone = self.alone
        return alone.task.measure(_unpacked(self.packed, alone.memory), *self.physics)[1]


class Alone:
    """``Task.measure`` and ``Task.judge`` for a batch of one.

    Args:
        task: the animal's.
        memory: the animal's.
        physics: sensors, substeps, qpos, qvel and action, as in ``Task.measure``; any of the animal.

    Attributes:
        terms: the active reward terms that it was compiled for.
        memory: views of packed arrays, which each step changes.
    """

    def __init__(self, task: Task, memory: Memory, physics: Sequence[np.ndarray]) -> None:
        self.task, self.terms = task, task.active()
        self._packed = [np.concatenate(same) for same in _by_type(memory)]
        self.memory = _unpacked(self._packed, memory)
        program = Program()
        before = _unpacked([program.argument(array) for array in self._packed], memory)
        arguments = [program.argument(array) for array in physics]
        limit = program.argument(memory.steps)
        judged = task.judge(*task.measure(before, *arguments), program.zeros(1, bool), limit)
        flags = program.stack([judged.success, judged.terminated, judged.truncated], axis=0)
        after = [program.concat(same, axis=0) for same in _by_type(judged.memory)]
        self._run, readers = program.compiled([judged.observation, judged.paid, judged.reward, flags, *after])
        self._readers = readers[:-1]  # the limit is a number already

    def given(self, physics: Sequence[np.ndarray]) -> Given:
        """Return copies of what the next step is judged from."""
        return Given(self, [array.copy() for array in self._packed], [array.copy() for array in physics])

    def step(self, physics: Sequence[np.ndarray], limit: int) -> Judgement | None:
        """Return what a control step came to, or None where NumPy has to, such as after a division by zero."""
        given = [read(array) for read, array in zip(self._readers, (*self._packed, *physics), strict=True)]
        try:
            observation, paid, reward, flags, *after = self._run(*given, (limit,))
        except (ArithmeticError, ValueError):
            return None
        for array, values in zip(self._packed, after, strict=True):
            array[:] = values
        success, terminated, truncated = np.array(flags)[:, None]
        seen, real = np.array([observation], np.float32), np.array(reward)
        return Judgement(self.memory, seen, np.array(paid)[:, None], real, success, terminated, truncated)


def compile_task(task: Task, memory: Memory, physics: Sequence[np.ndarray]) -> Alone | None:
    """Return the compiled task; None if it does what cannot be traced."""
    if any(array.dtype != np.float64 for array in physics):
        return None
    try:
        return Alone(task, memory, physics)
    except (NotImplementedError, AttributeError, TypeError):
        return None


def _by_type(memory: Memory) -> list[list[Any]]:
    """Return the memory's arrays without the axis of animals, for each type."""
    return [[v[0] if v.ndim > 1 else v for v in vars(memory).values() if v.dtype == kind] for kind in _TYPES]


def _unpacked(packed: Sequence[Any], like: Memory) -> Memory:
    """Return the memory that is packed, as views."""
    ends, fields = [0, 0], {}
    for name, value in vars(like).items():
        kind, size = _TYPES.index(value.dtype), value.shape[-1]
        view = packed[kind][ends[kind] : ends[kind] + size]
        fields[name] = view[None] if value.ndim > 1 else view
        ends[kind] += size
    return Memory(**fields)
