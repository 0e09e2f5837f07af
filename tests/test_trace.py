"""Traced programs have NumPy's bits, and say what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dinorl.tasks import lean_numpy
from dinorl.tasks.trace import Program, Traced

NUMBERS = np.array([[-2.5, -0.3, -0.0, 0.0, 0.1, 0.7, 3.0, 1e-300, 123.456, 1e17]])
WHOLE = np.array([[-1, 0, 3, 7, 2, 9, -5, 4, 6, 8]])
# Functions of the library, two arrays of real numbers, and one of whole numbers.
FUNCTIONS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "arithmetic": lambda xp, x, y, k: (x + y - 0.5 * x) / (y + 7.0),
    "whole": lambda xp, x, y, k: xp.stack([k + 1, k - k, -k], axis=1),
    "power": lambda xp, x, y, k: x**2 - k**2,
    "remainder": lambda xp, x, y, k: (x + 0.3) % 1.0,
    "compared": lambda xp, x, y, k: ((x < y) | (x == y)) & ~(x >= 0.5) & (k > 2) & (k <= 8),
    "chosen": lambda xp, x, y, k: xp.where(x > y, x, 0.0) + xp.minimum(x, y) + xp.where(k > 0, k, -1),
    "clipped": lambda xp, x, y, k: xp.clip(x, -0.2, 0.5) - xp.clip(y, np.float64(0), xp.inf) - xp.clip(y, -xp.inf, 1.0),
    "absolute": lambda xp, x, y, k: xp.abs(-x) - abs(y),
    "curves": lambda xp, x, y, k: xp.exp(-0.5 * xp.clip(x, -1.0, 1.0)) + xp.sin(y) * xp.cos(x),
    "angles": lambda xp, x, y, k: xp.asin(xp.clip(x, -1.0, 1.0)) + xp.acos(xp.clip(y, -1.0, 1.0)) + xp.atan2(x, y),
    "roots": lambda xp, x, y, k: xp.sqrt(x * x + y * y),
    "float32": lambda xp, x, y, k: xp.astype(xp.astype(xp.concat([x, y * 0.1], axis=1), xp.float32), xp.float64) * 3.0,
    "converted": lambda xp, x, y, k: xp.astype(x > y, xp.float64) + xp.astype(k, xp.float64) / 3.0,
    "means": lambda xp, x, y, k: xp.mean(x * y, axis=1) + xp.sum(xp.stack([x, y], axis=1), axis=(1, 2)),
    "shapes": lambda xp, x, y, k: xp.take(xp.reshape(x, (2, 5))[:, ::-1], np.array([3, 0]), axis=-1)[None] * y[:, 4],
}  # fmt: skip


def ran(function: Callable[..., Traced], *arrays: np.ndarray) -> np.ndarray:
    """Return a function's traced result on arrays."""
    program = Program()
    result = function(program, *(program.argument(array) for array in arrays))
    run, readers = program.compiled([result])
    (values,) = run(*(read(array) for read, array in zip(readers, arrays, strict=True)))
    return np.array(values, result.dtype).reshape(result.shape)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_have_numpy_bits(function: Callable[..., Any]) -> None:
    arrays = NUMBERS, NUMBERS[:, ::-1].copy(), WHOLE
    found, expected = ran(function, *arrays), function(lean_numpy, *arrays)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 17, 85, 128, 129, 300])
def test_sums_have_numpy_order(count: int) -> None:
    terms = np.random.default_rng(count).normal(size=(1, count)) * 1e3
    np.testing.assert_array_equal(ran(lambda xp, x: xp.sum(x, axis=1), terms), terms.sum(axis=1))


def test_program_reads_what_it_needs() -> None:
    program = Program()
    many, unused = program.argument(np.zeros((2, 3))), program.argument(np.zeros(4))
    seen = many[:, 1:2] + 1.0
    _ = many[:, 0] * unused[:2]
    _, readers = program.compiled([seen])
    assert [read(array) for read, array in zip(readers, (np.arange(6.0).reshape(2, 3), np.ones(4)), strict=True)] == [
        [1.0, 4.0], [],
    ]  # fmt: skip


@pytest.mark.parametrize("function", [
    lambda xp, x: xp.tanh(x), lambda xp, x: np.tanh(x), lambda xp, x: x**3, lambda xp, x: xp.astype(x, xp.int64),
    lambda xp, x: xp.sum(x, axis=0), lambda xp, x: x if x[0, 0] > 0.0 else -x, lambda xp, x: np.add.reduce(x),
    lambda xp, x: xp.linalg.norm(x), lambda xp, x: float(x[0, 0]),
])  # fmt: skip
def test_untraceable_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises((NotImplementedError, AttributeError, TypeError)):
        ran(function, NUMBERS)
