"""Exact area under the ROC curve."""

from __future__ import annotations

import torch
from torch import Tensor


def auc(logits: Tensor, labels: Tensor) -> float:
    """Chance that a sample of label 1 has a larger logit than one of label 0, ties counted half; NaN for one class.

    Args:
        logits: `(N,)` floating point.
        labels: `(N,)`, 0 or 1.
    """
    if bool((labels == labels[0]).all()):
        return float("nan")
    from torchmetrics.functional.classification import binary_auroc

    # on ranks: torchmetrics would squash logits through a float32 sigmoid, which can merge distinct ones
    return float(binary_auroc(_ranks(logits), labels.long(), thresholds=None))


def _ranks(values: Tensor) -> Tensor:
    """Dense ranks scaled into [0, 1], equal for equal values."""
    distinct, inverse = torch.unique(values, return_inverse=True)
    return inverse.double() / max(1, len(distinct) - 1)
