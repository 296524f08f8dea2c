"""A trained table read in slices, and how far a compressed table is from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.options import TableOptions
from embpress.compressors.spec import as_bytes, as_ratio

T = TypeVar("T", bound=Compressor)
_FLOATS = (np.float16, np.float32, np.float64)


class DenseRows:
    """The rows of a trained table, read in slices.

    Args:
        weight: `(n, D)` floating point: a tensor, or anything with `shape` whose slices `weight[a:b]` are arrays, such
            as a NumPy array, `np.load(path, mmap_mode="r")` or an HDF5 data set.

    Raises:
        InputError: no matrix, no row, or other numbers.
    """

    def __init__(self, weight: Any) -> None:
        shape = tuple(getattr(weight, "shape", ()))
        if len(shape) != 2 or min(shape) < 1:
            raise InputError(f"from_dense: the table must be a matrix (rows, width), got the shape {shape}")
        self.weight, self.shape = weight, (int(shape[0]), int(shape[1]))
        self.device = weight.device if isinstance(weight, Tensor) else torch.device("cpu")
        one = weight[0:1]
        known = one.is_floating_point() if isinstance(one, Tensor) else _native(np.asarray(one).dtype) in _FLOATS
        if not known:
            raise InputError(f"from_dense: the table must be of floating point numbers, got {one.dtype}")
        self.dtype = self[0:1].dtype

    def __getitem__(self, part: slice) -> Tensor:
        rows = self.weight[part]
        if isinstance(rows, Tensor):
            return rows.detach()
        array = np.asarray(rows)
        return torch.from_numpy(array.astype(_native(array.dtype)))  # a copy: mapped files may be read-only

    def chunks(self, numbers: int = 1 << 20, rows: range | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Rows in their order, all of them by default, about so many numbers at a time."""
        n, dim = self.shape
        rows = range(n) if rows is None else rows
        step = max(1, numbers // dim)
        for start in range(rows.start, rows.stop, step):
            part = slice(start, min(rows.stop, start + step))
            yield part, self[part]


def options_like(table: DenseRows, cls: type[Compressor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a method's table, with the device and, where the method has it, the dtype of a trained one."""
    own = {"device": table.device, "dtype": table.dtype if cls.tags.has(table.dtype) else None}
    return {**own, **{name: value for name, value in options.items() if value is not None}}


def sized(table: DenseRows, cls: type[Compressor], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs in which a `budget` of serving bytes, or a `ratio` of `4 n D` over them, is the size knobs that reach it.

    Raises:
        InputError: more than one of budget, ratio and size knobs. BudgetError: too few bytes.
    """
    names = (*cls.size_knobs, "budget", "ratio")
    asked = [name for name in names if knobs.get(name) is not None]
    if len(asked) > 1:
        raise InputError(f"{cls.spec_name}: from_dense takes one of {', '.join(names)}, got {' and '.join(asked)}")
    given = {name: value for name, value in knobs.items() if name not in ("budget", "ratio")}
    if not set(asked) & {"budget", "ratio"}:
        return given
    (n, dim), solved = table.shape, cast(Any, cls)
    size = as_bytes(knobs["budget"]) if "budget" in asked else int(4 * n * dim / as_ratio(knobs["ratio"]))
    own = {name: value for name, value in given.items() if name not in TableOptions.__annotations__}
    return {**given, **solved.for_budget(n, dim, size, **own)}


def finite(total: float) -> float:
    """A sum over a trained table; InputError where it is no number."""
    if not math.isfinite(total):
        raise InputError("from_dense: the table has entries that are NaN, infinite or too large to square")
    return total


def only_one(method: str, **asked: Any) -> None:
    """Checks that at most one of the ways to say how large a table is to be is not None.

    Raises:
        InputError: two of them are given; names them.
    """
    names = [name for name, value in asked.items() if value is not None]
    if len(names) > 1:
        *most, last = asked
        raise InputError(f"{method}: from_dense takes one of {', '.join(most)} and {last}, got {' and '.join(names)}")


def aimed_at(method: str, tolerance: float, dtype: torch.dtype, least: float) -> float:
    """The error to compute with for a relative error asked for: a little less, for the rounding of what is made.

    Args:
        method: what the message calls it.
        tolerance: the largest relative error.
        dtype: of what is made.
        least: what the computation itself can tell from no error.

    Raises:
        InputError: 1 or more, or less than the dtype or the computation can hold.
    """
    minimum = max(16 * torch.finfo(dtype).eps, least)
    if not minimum <= tolerance < 1:
        name = str(dtype).removeprefix("torch.")
        raise InputError(
            f"{method}: tolerance={tolerance} must be a relative error from {minimum:.1g}, what {name} can hold, to 1"
        )
    return tolerance - minimum / 2


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")


@torch.no_grad()
def relative_error(table: Compressor, weight: DenseRows, chunk: int = 1 << 13) -> float:
    """Frobenius norm of what lookups in `table` miss of `weight`, over the norm of `weight`, summed in float64.

    Args:
        table: `(n, D)`; looked up in eval mode, in its own dtype.
        weight: `(n, D)`.
        chunk: rows at a time.
    """
    training = table.training
    table.eval()  # what counts ids counts those of training only
    missed = norm = 0.0
    for part, rows in weight.chunks(chunk * weight.shape[1]):
        want = rows.to(table.device, torch.float64)
        got = table.lookup(torch.arange(part.start, part.stop, device=table.device))
        missed += float((got - want).square().sum())
        norm += float(want.square().sum())
    table.train(training)
    if norm == 0:
        return 0.0 if missed == 0 else math.inf
    return math.sqrt(missed / norm)


@torch.no_grad()
def copied(cls: type[T], weight: Any, options: Mapping[str, Any]) -> tuple[T, float]:
    """A table that holds the rows of a trained one as they are, in a `weight (n, D)`, and its relative error."""
    dense = DenseRows(weight)
    table = cls(*dense.shape, **options_like(dense, cls, options))
    for part, rows in dense.chunks():
        table.weight[part] = rows
    return table, relative_error(table, dense)
