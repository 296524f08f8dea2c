"""A trained table read in slices, and how far a compressed table is from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError

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
    training, n = table.training, weight.shape[0]
    table.eval()  # what counts ids counts those of training only
    missed = norm = 0.0
    for start in range(0, n, chunk):
        stop = min(n, start + chunk)
        want = weight[start:stop].to(table.device, torch.float64)
        got = table.lookup(torch.arange(start, stop, device=table.device))
        missed += float((got - want).square().sum())
        norm += float(want.square().sum())
    table.train(training)
    if norm == 0:
        return 0.0 if missed == 0 else math.inf
    return math.sqrt(missed / norm)
