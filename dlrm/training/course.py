"""How far a training has come, and where that is kept so that a killed one goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Saved(Protocol):
    """Where a training is kept between its steps."""

    def load(self) -> dict[str, Any] | None:
        """What was kept last; None where nothing is, or nothing that fits."""
        ...

    def due(self) -> bool:
        """Whether it is time to keep the next."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Keeps plain values and tensors; a failure is said, and the training goes on."""
        ...


class Best(Protocol):
    """What is taken of a model at the epoch that counts."""

    def take(self, model: nn.Module) -> None:
        """Takes it, in place of what was taken before."""
        ...

    def state(self) -> Any:
        """What was taken, as `Saved` keeps it."""
        ...

    def restore(self, state: Any) -> None:
        """Takes over what `state` gave."""
        ...


@dataclass
class Trained:
    """What training gives.

    Attributes:
        metrics: auc, auc_last, valid_auc, log_loss, accuracy, best_epoch, step_ms, train_seconds, train_samples_per_s;
            auc_trained, log_loss_trained and valid_auc_served where serving changes lookups.
        curve: points of step, epoch, train_loss, valid_auc, valid_log_loss, of the model as it is trained, and seconds
            of training; test_auc, as served, where an epoch was tested.
        test_logits: `(N,)` of the model as it is served, at the epoch with the best validation AUC.
        served: what each step of folding costs: see `evaluate.Tested`.
        resumed: how often it was taken up again.
    """

    metrics: dict[str, float]
    curve: list[dict[str, float]] = field(default_factory=list)
    test_logits: Tensor | None = None
    served: tuple[dict[str, Any], ...] = ()
    resumed: int = 0


@dataclass
class Course:
    """How far a training has come between two steps; what is trained is not in it.

    Attributes:
        loss_sum, loss_steps: since the last point of the curve, a scalar on the device.
        epoch: from 0. batches: of this epoch's that are done. step: of the training.
        seen: samples.
        seconds: of training, without what is measured or saved in between; `times` are those of each step.
        best: validation AUC of the epoch that counts so far, -1 before the first.
        valid: scores of the validation part at the last point of this epoch; empty before the first.
        result: what there is of it.
    """

    loss_sum: Tensor
    loss_steps: int = 0
    epoch: int = 0
    batches: int = 0
    step: int = 0
    seen: int = 0
    seconds: float = 0.0
    best: float = -1.0
    valid: dict[str, float] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    result: Trained = field(default_factory=lambda: Trained({}))

    def state(self) -> dict[str, Any]:
        """All of it, as `Saved` keeps it."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "result"}
        own |= {"loss_sum": self.loss_sum.cpu(), "times": torch.tensor(self.times, dtype=torch.float64)}
        return own | {"result": {one.name: getattr(self.result, one.name) for one in fields(Trained)}}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> Course:
        """From what `state` gave, taken up once more."""
        own = {**state, "loss_sum": state["loss_sum"].to(device), "times": state["times"].tolist()}
        result = Trained(**state["result"])
        result.resumed += 1
        return cls(**{**own, "result": result})
