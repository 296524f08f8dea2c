"""The singular values of tables that are served as plain rows (MLET, section 2.2.1)."""

from __future__ import annotations

import torch

from embpress.compressors import Compressor

_CHUNK = 1 << 16  # rows at a time


@torch.no_grad()
def spectrum(table: Compressor) -> tuple[float, ...]:
    """Singular values of the folded table over the largest, falling, `min(n, D)` of them.

    They come from the Gram matrix in float64, so that those below 1e-7 are rounding. Empty for a table that is served
    as something else than plain rows, or in fewer bits, and for one of zeros.
    """
    if table.modifiers:
        return ()
    folded = table.fold()
    if not folded.tags.plain or folded.modifiers:
        return ()
    weight = folded.weight
    gram = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64, device=weight.device)
    for part in weight.split(_CHUNK):
        gram += part.double().t() @ part.double()
    if not gram.isfinite().all():
        return ()
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)[: min(weight.shape)]
    return tuple((values / values[0]).tolist()) if values[0] > 0 else ()
