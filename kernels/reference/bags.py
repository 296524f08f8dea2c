"""Bags of ids of several tables, in plain PyTorch: what ops that pool have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import floats, integers, longs, shaped
from embpress.kernels.errors import ArgumentError
from embpress.kernels.reference.checks import check_ids, check_offsets


def check_bags(
    parameter: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool,
) -> int:
    """Raises for types and shapes that no op on bags takes; returns the number of tables."""
    count = shaped("ids", integers("ids", ids), "N").shape[0]
    tables = longs("rows", rows, "T").shape[0]
    longs("row_offsets", row_offsets, tables)
    bounds = longs("offsets", offsets, "T B + 1").shape[0]
    if tables < 1 or bounds < 1 or (bounds - 1) % tables:
        raise ArgumentError(f"{bounds} offsets are not those of the bags of {tables} tables and the end")
    if weights is not None:
        shaped("weights", floats("weights", weights, parameter), count)
        if mean:
            raise ArgumentError("weights go with sums, not with means")
    return tables


def in_bags(ids: Tensor, offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Checked ids `(N,)` int64 and the table `(N,)` of each, None where there is but one.

    Raises:
        IdOutOfRange, OffsetsError: as `ops.check_ids` and `ops.check_offsets`.
    """
    check_offsets(offsets, ids.shape[0])
    of = None
    if rows.shape[0] > 1:
        each = (offsets.shape[0] - 1) // rows.shape[0]
        ends = offsets[:: max(1, each)][: rows.shape[0] + 1]
        of = torch.repeat_interleave(ends.diff(), output_size=ids.shape[0])
    return check_ids(ids, rows, None, of), of


def by_table(numbers: Tensor, of: Tensor | None) -> Tensor:
    """Numbers of the tables `(T, …)` for each lookup: `(N, …)`, or `(1, …)` for all of them."""
    return numbers if of is None else numbers[of]
