"""`own_dtype`: a table answers in its own dtype under autocast, as `nn.EmbeddingBag` does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def own_dtype(device: torch.device) -> AbstractContextManager[object]:
    """Turns autocast off for products of weights on a device, where it is on; the meta device has none."""
    on = device.type != "meta" and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()
