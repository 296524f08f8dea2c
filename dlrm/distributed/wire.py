"""What the ranks exchange in a training step, and how many bytes that is."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Wire:
    """Collectives of all ranks that count what each of them sends.

    Bytes are those of the ring, whatever the backend does: an all-reduce of b bytes over N ranks sends
    `2 (N - 1) / N b` from each of them (Patarasuk and Yuan 2009), an all-gather of b bytes from each rank `(N - 1) b`,
    since each passes on what it gets.

    Attributes:
        world: N.
        sent: bytes that a rank has sent so far.
    """

    def __init__(self) -> None:
        self.world = dist.get_world_size()
        self.sent = 0.0

    def sum_cost(self, size: int) -> float:
        """Bytes that a rank sends for the sum of tensors of `size` bytes."""
        return 2 * (self.world - 1) / self.world * size

    def gather_cost(self, size: int) -> float:
        """Bytes that a rank sends where each has `size` bytes for all others."""
        return float((self.world - 1) * size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        self.sent += self.sum_cost(tensor.nbytes)
        dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, of one shape `(K, …)`, one after another: `(N K, …)`."""
        self.sent += self.gather_cost(tensor.nbytes)
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)


def summed(wire: Wire, bucket: Any) -> torch.futures.Future[Tensor]:
    """A bucket of DDP's gradients, summed over the ranks: a communication hook.

    DDP by itself would give the mean; each rank's loss is its part of the mean over the whole batch already.
    """
    buffer = bucket.buffer()
    wire.sent += wire.sum_cost(buffer.nbytes)
    future: torch.futures.Future[list[Tensor]] = dist.all_reduce(buffer, async_op=True).get_future()
    return future.then(lambda done: done.value()[0])
