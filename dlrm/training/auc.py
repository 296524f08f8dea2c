"""Exact area under the ROC curve."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from embpress.compressors.errors import installed


def auc(logits: Tensor, labels: Tensor) -> float:
    """Chance that a sample of label 1 has a larger logit than one of label 0, ties counted half; NaN for one class.

    By torchmetrics, or without it by `auc_by_counts`, which gives the same up to torchmetrics' rounding.

    Args:
        logits: `(N,)` floating point.
        labels: `(N,)`, 0 or 1.
    """
    if bool((labels == labels[0]).all()):
        return float("nan")
    if not installed("torchmetrics"):
        return auc_by_counts(logits, labels)
    from torchmetrics.functional.classification import binary_auroc

    # on ranks: torchmetrics would squash logits through a float32 sigmoid, which can merge distinct ones
    return float(binary_auroc(_ranks(logits), labels.long(), thresholds=None))


def auc_by_counts(logits: Tensor, labels: Tensor) -> float:
    """The same from whole numbers: for each distinct logit, the pairs that its samples of label 1 win or draw."""
    values, place = np.unique(logits.numpy(), return_inverse=True)
    ones = np.bincount(place[labels.numpy() > 0.5], minlength=len(values))
    zeros = np.bincount(place, minlength=len(values)) - ones
    below = zeros.cumsum() - zeros
    return int((ones * (2 * below + zeros)).sum()) / (2 * int(ones.sum()) * int(zeros.sum()))


def _ranks(values: Tensor) -> Tensor:
    """Dense ranks scaled into [0, 1], equal for equal values."""
    distinct, inverse = torch.unique(values, return_inverse=True)
    return inverse.double() / max(1, len(distinct) - 1)
