"""Rows put together from rows of part tables, in plain PyTorch."""

from __future__ import annotations

import functools
import itertools
import operator

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, longs, lookups, shaped, whole
from embpress.kernels.errors import ArgumentError
from embpress.kernels.reference.checks import checked
from embpress.kernels.reference.hashing import part_hash
from embpress.kernels.reference.pooling import no_view
from embpress.kernels.reference.row_sums import row_sums

# ways to put a row together from parts, in the numbering of the op
COMBINE = ("concat", "add", "mult")


def check_compositional(
    weight: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> None:
    """Raises for types and shapes that `ops.compositional_lookup` does not take."""
    shaped("weight", floats("weight", weight), "k", "width")
    tables = lookups(ids, row_offsets, rows)
    parts = longs("base", base, tables, "parts").shape[1]
    longs("coefficients", coefficients, tables, "1 or 4", parts)
    longs("sizes", sizes, tables, "parts or 1")
    if parts < 1 or coefficients.shape[1] not in (1, 4) or sizes.shape[1] not in (1, parts):
        shapes = ", ".join(str(tuple(each.shape)) for each in (coefficients, base, sizes))
        raise ArgumentError(f"coefficients, base and sizes must be those of one number of parts, got {shapes}")
    whole("combine", combine, 0, len(COMBINE) - 1)


def combine_parts(rows: Tensor, how: str) -> Tensor:
    """`(..., l, width)` → `(..., D)`, see `COMBINE`."""
    if how == "concat":
        return rows.flatten(-2)
    return rows.sum(-2) if how == "add" else functools.reduce(operator.mul, rows.unbind(-2))


def compositional_lookup(
    weight: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> Tensor:
    """See `ops.compositional_lookup`."""
    return _rows(weight, _index(weight, ids, row_offsets, rows, coefficients, base, sizes, combine), combine)


def _index(
    weight: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> Tensor:
    """The rows of the weight that the parts of each lookup take, `(N, T, l)` int64."""
    # what would go through in silence; all else is refused on the way
    fits = base.dim() == 2 and base.shape[0] == ids.shape[1] == sizes.shape[0] and weight.is_floating_point()
    if not fits:
        check_compositional(weight, ids, row_offsets, rows, coefficients, base, sizes, combine)
    x = checked(ids, rows).unsqueeze(-1)
    numbers = part_hash(x, coefficients) if coefficients.shape[1] == 4 else x // coefficients.squeeze(1)
    return numbers % sizes + (base + row_offsets.unsqueeze(1))


def _rows(weight: Tensor, index: Tensor, combine: int) -> Tensor:
    parts, how, wide = torch.nn.functional.embedding(index, weight), COMBINE[combine], compute_dtype(weight.dtype)
    if how == "concat":
        return torch.ops.aten._unsafe_view.default(
            parts, (*index.shape[:-1], index.shape[-1] * weight.shape[1])
        )  # a tensor of its own, no view
    if wide == weight.dtype:
        return no_view(combine_parts(parts, how))
    return combine_parts(parts.to(wide), how).to(weight.dtype)


def compositional_lookup_train(
    weight: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
    sparse: bool = False,
) -> tuple[Tensor, Tensor]:
    """`compositional_lookup` and the rows `(N, T, l)` that it took, flat: on a CPU they are dear to find twice."""
    index = _index(weight, ids, row_offsets, rows, coefficients, base, sizes, combine)
    return _rows(weight, index, combine), index.flatten()


def compositional_lookup_backward(
    grad: Tensor,
    weight: Tensor,
    index: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> Tensor:
    """Dense gradient of `compositional_lookup` in the weight."""
    index, flow = _flow(grad, weight, index.view(*ids.shape, base.shape[1]), combine)
    return torch.ops.aten.embedding_dense_backward(flow, index, weight.shape[0], -1, False).to(weight.dtype)


def compositional_lookup_rows_backward(
    grad: Tensor,
    weight: Tensor,
    index: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> tuple[Tensor, Tensor]:
    """The same gradient as the rows `(M,)` that were looked up, ascending, and theirs `(M, width)`."""
    if index.numel() != ids.numel() * base.shape[1]:  # whoever answered kept nothing
        index = _index(weight, ids, row_offsets, rows, coefficients, base, sizes, combine)
    index, flow = _flow(grad, weight, index.view(*ids.shape, base.shape[1]), combine)
    return row_sums(index, flow, weight.dtype)


def _flow(grad: Tensor, weight: Tensor, index: Tensor, combine: int) -> tuple[Tensor, Tensor]:
    """Rows `(N, T, l)` of the weight, and what flows into each of them `(N, T, l, width)`."""
    grad, how = grad.to(compute_dtype(weight.dtype)), COMBINE[combine]
    parts = torch.nn.functional.embedding(index, weight).to(grad.dtype) if how == "mult" else None
    return index, parts_gradient(grad, parts, how, index.shape[-1])


def parts_gradient(grad: Tensor, parts: Tensor | None, how: str, count: int | None = None) -> Tensor:
    """What flows into the parts' rows `(..., l, width)`, of which products need the values, from that of rows."""
    count = parts.shape[-2] if parts is not None else count or 1
    if how == "concat":
        return grad.reshape(*grad.shape[:-1], count, grad.shape[-1] // count)
    if how == "add" or parts is None:
        return grad.unsqueeze(-2).expand(*grad.shape[:-1], count, grad.shape[-1])
    return _product_backward(grad, parts)


def _product_backward(grad: Tensor, rows: Tensor) -> Tensor:
    """Gradients of the product over `rows (..., l, width)` in each factor: no division, so that zeros are right."""
    factors = rows.unbind(-2)
    before = list(itertools.accumulate(factors[:-1], operator.mul))
    flow = torch.empty_like(rows)
    for j in range(len(factors) - 1, 0, -1):
        torch.mul(grad, before[j - 1], out=flow.select(-2, j))
        grad = grad * factors[j]
    flow.select(-2, 0).copy_(grad)
    return flow
