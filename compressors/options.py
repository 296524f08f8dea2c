"""Keywords that every compressor takes, and those of `nn.EmbeddingBag` that none does."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Generator

# arguments of `nn.EmbeddingBag` that compressed tables do not have, with the values that ask for nothing
REFUSED: dict[str, float | bool | None] = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False}


class TableOptions(TypedDict, total=False):
    """Keywords that every compressor takes besides its own.

    Attributes:
        mode: `"sum"` (default; `nn.EmbeddingBag`'s is mean) or `"mean"`.
        include_last_offset: offsets carry the end of the last bag.
        padding_idx: ids equal to it are ignored in bags.
        sparse: sparse gradients, where the method has them (`Tags.sparse_gradients`).
        device, dtype: of the parameters.
        generator: the only source of randomness of the initial values.
    """

    mode: str
    include_last_offset: bool
    padding_idx: int | None
    sparse: bool
    device: torch.device | str | None
    dtype: torch.dtype | None
    generator: Generator | None
