"""An array library that writes down what is computed, as a program on numbers.

For one animal nearly all of a step's time goes into calling NumPy, not into arithmetic. What a function does with this
library's arrays is written down as straight-line Python on floats: a tenth of the time, the same bits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

Reader = Callable[[np.ndarray], list[Any]]

_BOOL, _REAL, _SHORT = np.dtype(bool), np.dtype(np.float64), np.dtype(np.float32)
# NumPy's functions as Python; other libraries' sines would have other bits.
_FORMS = {
    np.add: "{} + {}", np.subtract: "{} - {}", np.multiply: "{} * {}", np.divide: "{} / {}", np.remainder: "{} % {}",
    np.negative: "-{}", np.square: "{0} * {0}", np.absolute: "{0} if {0} > 0.0 else 0.0 - {0}",
    np.minimum: "{1} if {1} < {0} else {0}", np.maximum: "{1} if {1} > {0} else {0}",
    np.less: "{} < {}", np.less_equal: "{} <= {}", np.greater: "{} > {}", np.greater_equal: "{} >= {}",
    np.equal: "{} == {}", np.bitwise_and: "{} & {}", np.bitwise_or: "{} | {}", np.invert: "not {}",
    np.sqrt: "sqrt({})", np.exp: "exp({})", np.sin: "sin({})", np.cos: "cos({})", np.arcsin: "arcsin({})",
    np.arccos: "arccos({})", np.arctan2: "arctan2({}, {})",
}  # fmt: skip
_CALLED = {"sqrt": math.sqrt, "inf": math.inf, "nan": math.nan, "float32": np.float32} | {
    ufunc.__name__: ufunc for ufunc in (np.exp, np.sin, np.cos, np.arcsin, np.arccos, np.arctan2)
}
_VARIABLE = re.compile(r"\b[av]\d\w*")


class Traced(NDArrayOperatorsMixin):
    """An array of a program's variables.

    Args:
        program: the program.
        cells: names of variables, and numbers, as an array of objects.
        dtype: of the values, NumPy's.
    """

    device = "cpu"

    def __init__(self, program: Program, cells: Any, dtype: Any) -> None:
        self.program, self.cells, self.dtype = program, np.asarray(cells, dtype=object), np.dtype(dtype)
        self.shape, self.ndim = self.cells.shape, self.cells.ndim

    def __array_namespace__(self, api_version: str | None = None) -> Program:
        return self.program

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *values: Any, **settings: Any) -> Any:
        return NotImplemented if settings or method != "__call__" else self.program.apply(ufunc, *values)

    def __getitem__(self, key: Any) -> Traced:
        return Traced(self.program, self.cells[key], self.dtype)

    def __setitem__(self, key: Any, value: Traced) -> None:
        self.cells[key] = value.cells

    def __bool__(self) -> bool:
        raise TypeError("what a program does cannot depend on its arguments")


class Program:
    """What was computed so far; as an array library, it has the functions that the tasks call."""

    __name__ = "dinorl.tasks.trace"
    pi, inf = math.pi, math.inf
    float32, float64, int64 = np.float32, np.float64, np.int64

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # of variables, by expression
        self._arguments: list[list[str]] = []  # names of their elements

    def argument(self, like: np.ndarray) -> Traced:
        """Return the next argument, an array of this shape and type."""
        names = [f"a{len(self._arguments)}_{i}" for i in range(like.size)]
        self._arguments.append(names)
        return Traced(self, np.array(names, dtype=object).reshape(like.shape), like.dtype)

    def compiled(self, results: Sequence[Traced]) -> tuple[Callable[..., Any], list[Reader]]:
        """Return the function from arguments to results, and the readers of its arguments.

        The function takes what the readers return and returns a tuple of numbers for each result. It raises an
        ArithmeticError or a ValueError where NumPy returns NaN or infinity.
        """
        returned = [[_text(cell) for cell in result.cells.flat] for result in results]
        needed, lines = {text for texts in returned for text in texts}, list[str]()
        for expression, name in reversed(self._names.items()):
            if name in needed:
                lines.append(f"{name} = {expression}")
                needed.update(_VARIABLE.findall(expression))
        readers = []
        for k, names in enumerate(self._arguments):
            read = [i for i, name in enumerate(names) if name in needed]
            readers.append(_reader(read, len(names)))
            lines.append("".join(f"{names[i]}, " for i in read) + f"= a{k}" if read else "")
        head = f"def program({', '.join(f'a{k}' for k in range(len(readers)))}):"
        tuples = ["(" + "".join(f"{text}, " for text in texts) + ")" for texts in returned]
        scope: dict[str, Any] = dict(_CALLED)
        exec(compile("\n ".join([head, *reversed(lines), f"return {', '.join(tuples)},"]), "<traced>", "exec"), scope)
        return scope["program"], readers

    def apply(self, ufunc: np.ufunc, *values: Any) -> Traced:
        """Return what one of NumPy's elementwise functions returns."""
        if ufunc is np.power and values[1] == 2:
            ufunc, values = np.square, values[:1]
        if ufunc not in _FORMS:
            raise NotImplementedError(f"{ufunc.__name__} is not traced")
        kinds = [value.dtype if hasattr(value, "dtype") else type(value) for value in values]
        return self._combine(_FORMS[ufunc], ufunc.resolve_dtypes((*kinds, None))[-1], *values)

    def __getattr__(self, name: str) -> Callable[..., Traced]:
        """Return one of NumPy's elementwise functions."""
        ufunc = getattr(np, name, None)
        if not isinstance(ufunc, np.ufunc):
            raise AttributeError(f"{name} is not traced")
        return partial(self.apply, ufunc)

    def _combine(self, form: str, dtype: Any, *values: Any) -> Traced:
        """Return an expression of each element."""
        cells = [self._rounded(self.asarray(value)).cells for value in values]
        combined = np.frompyfunc(lambda *own: self._name(form.format(*[_text(cell) for cell in own])), len(cells), 1)
        return Traced(self, combined(*cells), dtype)

    def _name(self, expression: str) -> str:
        """Return the variable that holds an expression's value."""
        return self._names.setdefault(expression, f"v{len(self._names)}")

    def asarray(self, value: Any, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Traced:
        """As ``np.asarray``."""
        if isinstance(value, Traced):
            return Traced(self, value.cells.copy(), value.dtype) if copy else value
        array = np.asarray(value, dtype=dtype)
        return Traced(self, array.astype(object), array.dtype)

    def zeros(self, shape: Any, dtype: Any = _REAL, device: Any = None) -> Traced:
        """As ``np.zeros``."""
        return self.asarray(np.zeros(shape, dtype))

    def zeros_like(self, x: Traced) -> Traced:
        """As ``np.zeros_like``."""
        return self.zeros(x.shape, x.dtype)

    def astype(self, x: Traced, dtype: Any) -> Traced:
        """As ``np.astype``, to real numbers. Those of float32 are rounded when they are used or returned."""
        if dtype in (_SHORT, x.dtype):
            return Traced(self, x.cells, dtype)
        if dtype != _REAL:
            raise NotImplementedError(f"a conversion to {np.dtype(dtype)} is not traced")
        return self._combine("1.0 if {} else 0.0" if x.dtype == _BOOL else "float({})", dtype, x)

    def _rounded(self, x: Traced) -> Traced:
        if x.dtype != _SHORT:
            return x
        rounded = np.frompyfunc(lambda cell: self._name(f"float(float32({_text(cell)}))"), 1, 1)
        return Traced(self, rounded(x.cells), _REAL)

    def clip(self, x: Traced, low: float, high: float) -> Traced:
        """As ``np.clip``."""
        x = x if low == -math.inf else self._combine("{1} if {0} < {1} else {0}", x.dtype, x, low)
        return x if high == math.inf else self._combine("{1} if {0} > {1} else {0}", x.dtype, x, high)

    def where(self, condition: Traced, x: Any, y: Any) -> Traced:
        """As ``np.where``."""
        return self._combine("{1} if {0} else {2}", (x + y).dtype, condition, x, y)

    def stack(self, arrays: Sequence[Traced], axis: int) -> Traced:
        """As ``np.stack``."""
        return Traced(self, np.stack([array.cells for array in arrays], axis), arrays[0].dtype)

    def concat(self, arrays: Sequence[Traced], axis: int) -> Traced:
        """As ``np.concat``."""
        dtype = np.result_type(*[array.dtype for array in arrays])
        return Traced(self, np.concatenate([self._rounded(array).cells for array in arrays], axis), dtype)

    def reshape(self, x: Traced, shape: tuple[int, ...]) -> Traced:
        """As ``np.reshape``."""
        return Traced(self, x.cells.reshape(shape), x.dtype)

    def take(self, x: Traced, indices: np.ndarray, axis: int) -> Traced:
        """As ``np.take``."""
        return Traced(self, x.cells.take(indices, axis), x.dtype)

    def sum(self, x: Traced, axis: int | tuple[int, ...]) -> Traced:
        """As ``np.sum``, over the last axes."""
        axes = (axis,) if isinstance(axis, int) else axis
        kept = x.shape[: x.ndim - len(axes)]
        if sorted(i % x.ndim for i in axes) != list(range(len(kept), x.ndim)):
            raise NotImplementedError("a sum over other than the last axes is not traced")
        rows = x.cells.reshape(-1, math.prod(x.shape[len(kept) :]))
        sums = [self._added([Traced(self, cell, x.dtype) for cell in row]).cells.item() for row in rows]
        return Traced(self, np.array(sums, dtype=object).reshape(kept), x.dtype)

    def _added(self, terms: list[Traced]) -> Traced:
        """Return a sum in NumPy's order: in halves above 128 terms, by eights, and one by one."""
        n = len(terms)
        if n > 128:
            half = n // 2 - n // 2 % 8
            return self.apply(np.add, self._added(terms[:half]), self._added(terms[half:]))
        if n >= 8:
            r, rest = terms[:8], n - n % 8
            for i in range(8, rest):
                r[i % 8] = r[i % 8] + terms[i]
            terms = [((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7])), *terms[rest:]]
        total = terms[0]
        for term in terms[1:]:
            total = self.apply(np.add, total, term)
        return total

    def mean(self, x: Traced, axis: int) -> Traced:
        """As ``np.mean``."""
        return self.apply(np.divide, self.sum(x, axis), x.shape[axis])


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else repr(cell)


def _reader(read: list[int], size: int) -> Reader:
    """Return what takes these elements from an array of a size, as a list."""
    if not read:
        return lambda array: []
    if len(read) == size:
        return lambda array: array.ravel().tolist()
    where = np.array(read)
    return lambda array: array.take(where).tolist()
