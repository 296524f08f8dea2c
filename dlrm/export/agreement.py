"""Whether exported predictions are the trained ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embpress.dlrm.export.served import Inputs, Served
from embpress.dlrm.runs.checkpoint import Checkpoint
from embpress.kernels.errors import EmbpressError

# of a probability: sums of float32 in another order, and MLPs in bfloat16 on another machine
EXACT, AMP = 1e-4, 2**-6
DRAWN = 512
TRAINED, FOLDED = "trained", "folded"


class ExportRefused(EmbpressError):
    """Exported predictions that are not the trained ones."""


@dataclass(frozen=True)
class Case:
    """Inputs, the click probabilities `(B,)` expected of them, of which model, and by how much they may be missed."""

    model: str
    inputs: Inputs
    expected: Tensor
    limit: float


def rounding(checkpoint: Checkpoint) -> float:
    """The most that a probability of the same weights may differ."""
    return EXACT + (AMP if checkpoint.model.amp else 0.0)


def limit_of(checkpoint: Checkpoint) -> float:
    """The most that a served probability may differ from the trained one: with what the modifiers say they miss."""
    served = [one.cls.served_error for table in checkpoint.plan.tables for one in table.method.modifiers]
    return rounding(checkpoint) + max(served, default=0.0)


def answered(served: Served, inputs: Inputs) -> Tensor:
    """What a model answers now, in eval mode, `(B,)`."""
    with torch.inference_mode():
        return served(*inputs).clone()


def difference(answers: Tensor, expected: Tensor) -> float:
    """The largest difference of two probabilities; infinite where one is no number, or their shapes differ."""
    if answers.shape != expected.shape:
        return math.inf
    largest = float((answers.double() - expected.double()).abs().max()) if len(expected) else 0.0
    return math.inf if math.isnan(largest) else largest


def checked(what: str, answer: Callable[[Inputs], Tensor], cases: Sequence[Case]) -> float:
    """The largest difference of what a file answers from the trained predictions, `cases` without the folded ones.

    Raises:
        ExportRefused: it is more than a case allows.
    """
    largest = 0.0
    for case in cases:
        missed = difference(answer(case.inputs), case.expected)
        if not missed <= case.limit:
            raise ExportRefused(
                f"{what} predicts click probabilities up to {missed:.3g} from those of the {case.model} model, more "
                f"than the {case.limit:.3g} that rounding explains: nothing is exported"
            )
        if case.model == TRAINED:
            largest = max(largest, missed)
    return largest
