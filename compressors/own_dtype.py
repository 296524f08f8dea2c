"""`own_dtype`: a table answers in its own dtype under autocast, as `nn.EmbeddingBag` does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def own_dtype(device: torch.device) -> AbstractContextManager[object]:
    """Turns autocast off for products of weights on a device; the meta device, where nothing is computed, has none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
