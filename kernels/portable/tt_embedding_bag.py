"""TT-Rec in torch's own ops: a gather of slices and a product for each core."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype
from embpress.kernels.reference.tt_embedding_bag import tt_digits, tt_partials


def tt_embedding_bag(
    cores: list[Tensor],
    caches: list[Tensor],
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    num_embeddings: list[int],
    padding_idx: list[int],
    num_cores: int,
    mean: bool,
    include_last_offset: bool,
    math: int = 0,
) -> Tensor:
    """See `ops.tt_embedding_bag`, of bags of one id each, `(B, T)`; each lookup is multiplied out.

    Raises:
        NotImplementedError: bags of another size.
    """
    tables = len(num_embeddings)
    if offsets is not None or weights is not None or indices.shape[1] != tables:
        raise NotImplementedError("tt_embedding_bag has a portable form for bags of one id without weights only")
    dtype, outputs = cores[0].dtype, []
    wide = compute_dtype(dtype)
    for t in range(tables):
        ids, own = (
            indices[:, t].long().contiguous(),
            [core.to(wide) for core in cores[t * num_cores : (t + 1) * num_cores]],
        )
        partials, _ = tt_partials(own, tt_digits(ids, [core.shape[0] for core in own]))
        rows = partials[-1].squeeze(-1)
        if caches and caches[3 * t].numel():
            rows = _cached(caches[3 * t + 1], caches[3 * t + 2].to(wide), ids, rows)
        if padding_idx and padding_idx[t] >= 0:
            rows = rows.masked_fill((ids == padding_idx[t]).unsqueeze(1), 0)
        outputs.append(rows)
    return torch.stack(outputs, dim=1).to(dtype)


def _cached(held: Tensor, values: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    """The rows, those whose ids are held `(C,)` int64 (-1: none) taken from the values `(C, D)`."""
    ordered, order = held.sort()
    place = torch.searchsorted(ordered, ids).clamp(max=held.shape[0] - 1)
    return torch.where((ordered[place] == ids).unsqueeze(1), values[order[place]], rows)
