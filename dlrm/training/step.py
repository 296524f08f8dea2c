"""One training step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from embpress.compressors.maintenance import reset_state
from embpress.dlrm.data import Part
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.training.evaluate import inputs_of


def train_step(model: ClickModel, optimizers: Sequence[Optimizer], batch: Part, step: int) -> Tensor:
    """One training step: forward, backward, update of all parameters.

    Args:
        model: changed in place.
        optimizers: of `make_optimizers`.
        batch: on the model's device.
        step: its number, from 0.

    Returns:
        The mean loss before the step, a scalar on the device.
    """
    loss = F.binary_cross_entropy_with_logits(model(batch.dense, inputs_of(batch)), batch.labels)
    loss.backward()
    update(model, optimizers, step)
    return loss.detach()


def update(model: ClickModel, optimizers: Sequence[Optimizer], step: int) -> None:
    """What follows a backward: tables replace rows where it is time, then all parameters step on their gradients."""
    reset_state(model.tables.maintain(step), optimizers)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
