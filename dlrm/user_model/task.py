"""What a user gives to have methods compared in a model of their own: the model, its data, what is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from embpress.compressors import InputError
from embpress.compressors.errors import nearest

Score = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
Loss = Callable[[nn.Module, Any], Tensor]


def logits_and_labels(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """Logits and labels `(B,)` of a batch `(inputs, labels)`: what `score` does where none is given.

    The inputs are one tensor or object for `model(inputs)`, a tuple or list for `model(*inputs)`, or a mapping for
    `model(**inputs)`; a batch `(a, b, labels)` is `((a, b), labels)`.

    Raises:
        InputError: a batch of another form, or not one logit a label.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise InputError(f"a batch must be (inputs, labels), got {type(batch).__name__}; give a score of your own")
    *inputs, labels = batch
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        logits = model(**inputs[0])
    else:
        logits = model(*(inputs[0] if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)) else inputs))
    if not isinstance(logits, Tensor) or not isinstance(labels, Tensor) or logits.numel() != labels.numel():
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the model must give one logit a label, got {what}; give a score of your own")
    return logits.reshape(-1), labels.reshape(-1)


@dataclass(frozen=True)
class Task:
    """A model and data of the user's own.

    Attributes:
        model_fn: makes the model with plain embedding tables; random numbers are seeded before it is called.
        train_loader, test_loader: batches, iterated anew for every epoch.
        valid_loader: validation, which chooses the epoch; by default the last tenth of the training part.
        score: `(model, batch)` → logits and labels (0 or 1), both `(B,)`. The batch is on the model's device.
        loss: `(model, batch)` → the mean loss; by default binary cross-entropy on `score`.
        name: for records and reports.
    """

    model_fn: Callable[[], nn.Module]
    train_loader: Iterable[Any]
    test_loader: Iterable[Any]
    valid_loader: Iterable[Any] | None = None
    score: Score = logits_and_labels
    loss: Loss | None = None
    name: str = "model"

    @classmethod
    def of(cls, value: Any, name: str) -> Task:
        """The task that a factory gives: a mapping with the fields above as keys; `name` where it has none.

        Raises:
            InputError: no mapping, a key too many, or one missing.
        """
        if not isinstance(value, Mapping):
            want = "a dict with model_fn, train_loader and test_loader"
            raise InputError(f"{name} must give {want}, got {type(value).__name__}")
        known = {field.name: field for field in fields(cls)}
        for key in value:
            if key not in known:
                raise InputError(f"{name} gives {key!r}, which is no part of a task{nearest(str(key), known)}")
        missing = [key for key, field in known.items() if field.default is MISSING and key not in value]
        if missing:
            raise InputError(f"{name} gives no {', '.join(missing)}")
        return cls(**{"name": name, **value})

    def loss_of(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch."""
        if self.loss is not None:
            return self.loss(model, batch)
        logits, labels = self.score(model, batch)
        return F.binary_cross_entropy_with_logits(logits.float(), labels.float())

    @property
    def changes(self) -> dict[str, str]:
        """Which of `score` and `loss` are the user's own, by name: part of what runs must share."""
        own = {"score": self.score if self.score is not logits_and_labels else None, "loss": self.loss}
        return {key: getattr(value, "__qualname__", type(value).__name__) for key, value in own.items() if value}

    def samples(self, batch: Any) -> int:
        """Samples of a batch; 0 where its form is the user's own."""
        plain = self.score is logits_and_labels and isinstance(batch, (tuple, list)) and isinstance(batch[-1], Tensor)
        return int(batch[-1].numel()) if plain else 0
