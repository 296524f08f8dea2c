"""A compressed table as the weight of a linear layer, written out a block of rows at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from embpress.compressors.base import Compressor

_BLOCK = 1 << 13  # rows


def linear(table: Compressor, input: Tensor, bias: Tensor | None = None, block: int = _BLOCK) -> Tensor:
    """`F.linear(input, W, bias)` with the rows W `(n, D)` that the table stands for.

    Only `block` rows are written out at a time, in the backward too, which makes them once more.

    Args:
        table: of any method.
        input: `(*, D)`.
        bias: `(n,)`.
        block: rows at a time.

    Returns:
        `(*, n)`.

    Raises:
        RuntimeError: in the backward, where the table's parameters are others than they were in the forward.
    """
    parameters = list(table.parameters_by_name().values())
    again = torch.is_grad_enabled() and table.num_embeddings > block
    again = again and (input.requires_grad or any(p.requires_grad for p in parameters))
    parts: list[Tensor] = []
    for ids in torch.arange(table.num_embeddings, device=input.device).split(block):
        own = None if bias is None else bias[len(parts) * block :][: len(ids)]
        if again:
            parts.append(
                checkpoint(_part, table, parameters, input, ids, own, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            parts.append(_part(table, parameters, input, ids, own))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _part(table: Compressor, parameters: Sequence[Tensor], input: Tensor, ids: Tensor, bias: Tensor | None) -> Tensor:
    """The columns `ids` of the output."""
    now = table.parameters_by_name().values()
    if any(own is not other for own, other in zip(parameters, now)):  # as after torch.func.functional_call
        raise RuntimeError("a compressed table's parameters were exchanged between forward and backward")
    return F.linear(input, table.lookup(ids), bias)
