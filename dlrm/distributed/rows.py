"""Sparse gradients of all ranks added up: rows are gathered, or the whole gradient is reduced where that sends less."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from embpress.dlrm.distributed.wire import Wire


@torch.no_grad()
def add_up(parameters: Sequence[nn.Parameter], wire: Wire) -> None:
    """Makes the sparse gradients of some parameters the sums over all ranks; they stay sparse.

    Every rank ends with the same numbers in the same order. A row that no rank has looked up is in none of them, so
    that optimizers that step on the rows of a batch do so as in one process.

    Args:
        parameters: `(n, D)`, the same on every rank, with the gradients of this rank's part of the batch.
        wire: counts what is sent.
    """
    if not parameters:
        return
    grads = [_coalesced(parameter) for parameter in parameters]
    counts = wire.gather(torch.tensor([len(rows) for rows, _ in grads], device=parameters[0].device))
    for parameter, (rows, values), own in zip(parameters, grads, counts.view(wire.world, -1).t().tolist()):
        whole = wire.sum_cost(parameter.shape[0] * (parameter[0].numel() + 1) * parameter.element_size())
        some = wire.gather_cost(max(own) * (rows.element_size() + parameter[0].numel() * parameter.element_size()))
        add = _reduced if whole < some else _gathered
        rows, values = add(parameter, rows, values, own, wire)
        parameter.grad = torch.sparse_coo_tensor(rows[None], values, parameter.shape, check_invariants=False)


def _coalesced(parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
    """Rows of this rank's gradient `(K,)`, each once, and their values `(K, D)`."""
    grad = parameter.grad
    if grad is None:
        return torch.empty(0, dtype=torch.int64, device=parameter.device), parameter.new_empty(0, *parameter.shape[1:])
    grad = (grad if grad.is_sparse else grad.to_sparse(1)).coalesce()
    return grad.indices()[0], grad.values()


def _gathered(
    parameter: nn.Parameter, rows: Tensor, values: Tensor, counts: list[int], wire: Wire
) -> tuple[Tensor, Tensor]:
    """The rows of all ranks, rank after rank; what all of them send has the length of the longest."""
    longest, own = max(counts), len(rows)
    rows, values = (
        wire.gather(torch.cat([some, some.new_zeros(longest - own, *some.shape[1:])])) for some in (rows, values)
    )
    filled = torch.cat([torch.arange(count) + rank * longest for rank, count in enumerate(counts)]).to(rows.device)
    return rows[filled], values[filled]


def _reduced(
    parameter: nn.Parameter, rows: Tensor, values: Tensor, counts: list[int], wire: Wire
) -> tuple[Tensor, Tensor]:
    """The rows that any rank has, summed as part of the whole; a column says which these are."""
    width = parameter[0].numel()
    whole = parameter.new_zeros(parameter.shape[0], width + 1)
    whole[rows] = torch.cat([values.reshape(len(rows), width), values.new_ones(len(rows), 1)], 1)
    wire.sum(whole)
    found = whole[:, width].nonzero().flatten()
    return found, whole[found, :width].view(len(found), *parameter.shape[1:])
