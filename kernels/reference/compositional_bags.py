"""Bags of rows put together from rows of part tables, in plain PyTorch: a lookup, then a sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, tensor
from embpress.kernels.reference.bags import by_table, check_bags, in_bags
from embpress.kernels.reference.compositional import COMBINE, check_compositional, combine_parts, parts_gradient
from embpress.kernels.reference.hashing import part_hash
from embpress.kernels.reference.pooling import no_view, pool, pool_backward
from embpress.kernels.reference.row_sums import row_sums


def check_compositional_bags(
    weight: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
    mean: bool,
) -> None:
    """Raises for types and shapes that `ops.compositional_bags` does not take."""
    tables = check_bags(weight, ids, offsets, weights, row_offsets, rows, mean)
    one = tensor("ids", ids).new_zeros(1, tables)
    check_compositional(weight, one, row_offsets, rows, coefficients, base, sizes, combine)


def compositional_bags(weight: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor | None, *known: Any) -> Tensor:
    """See `ops.compositional_bags`."""
    check_compositional_bags(weight, ids, offsets, weights, *known)
    made = combine_parts(_parts(weight, _index(ids, offsets, *known[:5])), COMBINE[known[5]])
    wide = None if weights is None else weights.to(made.dtype)
    return no_view(pool(made, offsets, wide, known[6]).to(weight.dtype))


def compositional_bags_train(
    weight: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor | None, *known: Any
) -> Tensor:
    """`compositional_bags`, whatever form its gradient takes."""
    return compositional_bags(weight, ids, offsets, weights, *known[:-1])


def compositional_bags_backward(
    grad: Tensor, weight: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor | None, *known: Any
) -> tuple[Tensor, Tensor]:
    """Gradients of `compositional_bags` in the weight, dense, and in the weights of the ids, where there are any."""
    index, flow, of_weights = _flows(grad, weight, ids, offsets, weights, *known)
    made = torch.ops.aten.embedding_dense_backward(flow, index, weight.shape[0], -1, False)
    return made.to(weight.dtype), of_weights


def compositional_bags_rows_backward(
    grad: Tensor, weight: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor | None, *known: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The same gradients, the weight's as the rows `(M,)` that were looked up, ascending, and theirs `(M, width)`."""
    index, flow, of_weights = _flows(grad, weight, ids, offsets, weights, *known)
    return *row_sums(index, flow, weight.dtype), of_weights


def _index(
    ids: Tensor,
    offsets: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
) -> Tensor:
    """The rows of the weight that the parts of each lookup take, `(N, l)` int64."""
    ids, of = in_bags(ids, offsets, rows)
    x = ids.unsqueeze(-1)
    own = by_table(coefficients, of)
    numbers = part_hash(x, own) if coefficients.shape[1] == 4 else x // own.squeeze(-2)
    return numbers % by_table(sizes, of) + by_table(base + row_offsets.unsqueeze(1), of)


def _parts(weight: Tensor, index: Tensor) -> Tensor:
    return torch.nn.functional.embedding(index, weight).to(compute_dtype(weight.dtype))


def _flows(
    grad: Tensor, weight: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor | None, *known: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows `(N, l)` of all parts, what flows into them `(N, l, width)`, and the gradient of the weights."""
    *tensors, combine, mean = known
    how, index = COMBINE[combine], _index(ids, offsets, *tensors)
    parts = _parts(weight, index)
    wide = None if weights is None else weights.to(parts.dtype)
    flow, of_weights = pool_backward(grad.to(parts.dtype), combine_parts(parts, how), offsets, wide, mean)
    empty = weight.new_empty(0)
    return index, parts_gradient(flow, parts, how), empty if of_weights is None else of_weights.to(weight.dtype)
