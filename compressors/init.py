"""Initial values that are the same on every device: drawn where the generator is, copied to where they belong."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor


@torch.no_grad()
def fill(tensor: Tensor, generator: Generator | None, draw: Callable[[Tensor], object]) -> None:
    """Lets `draw` fill a tensor, or one like it on the generator's device, which is then copied.

    torch's in-place draws need a generator on the tensor's own device; a seed would then mean other values on each.

    Args:
        tensor: any shape, dtype and device; nothing is drawn on `meta`.
        generator: what `draw` draws from; None stands for torch's default one on the CPU.
        draw: fills the tensor that it gets, on the generator's device.
    """
    if tensor.device.type == "meta":
        return
    source = torch.device("cpu") if generator is None else generator.device
    if tensor.device == source:
        draw(tensor)
        return
    drawn = torch.empty(tensor.shape, dtype=tensor.dtype, device=source)
    draw(drawn)
    tensor.copy_(drawn)


def uniform_(tensor: Tensor, low: float, high: float, generator: Generator | None) -> None:
    """Fills a tensor from `U(low, high)`."""
    fill(tensor, generator, lambda values: values.uniform_(low, high, generator=generator))


def normal_(tensor: Tensor, mean: float, std: float, generator: Generator | None) -> None:
    """Fills a tensor from `N(mean, std²)`."""
    fill(tensor, generator, lambda values: values.normal_(mean, std, generator=generator))
