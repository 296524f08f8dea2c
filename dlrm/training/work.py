"""What the training loop asks of a model with its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from embpress.dlrm.training.evaluate import Tested


class Work(Protocol):
    """A model with its data, to be trained.

    Attributes:
        device: of the model.
        rows, steps: samples and batches of an epoch; 0 where nobody knows.
    """

    device: torch.device
    rows: int
    steps: int

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Any, int]]:
        """The batches of an epoch, on the device, and how many samples each has (0 where nobody knows).

        Where `first` of them are done already the others come, as they would have.
        """
        ...

    def step(self, batch: Any, number: int) -> Tensor:
        """One training step, the `number`-th from 0: the mean loss before it, a scalar on the device."""
        ...

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, between two steps of an epoch, as `course.Saved` keeps it."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave; the next call is `batches` of the same epoch."""
        ...

    def valid(self) -> dict[str, float]:
        """Scores of the validation part by the model as it is trained: see `evaluate.scores`."""
        ...

    def test(self) -> Tested:
        """What the test part says of the model as it is served."""
        ...
