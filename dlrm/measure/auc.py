"""Exact area under the ROC curve."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.dlrm.measure import spool
from embpress.dlrm.measure.tally import tallies


def auc(logits: Tensor, labels: Tensor) -> float:
    """Chance that a sample of label 1 has a larger logit than one of label 0, ties counted half; NaN for one class.

    Of more than `spool.IN_MEMORY` samples pairs are counted in bounded memory (`counted`).

    Args:
        logits: `(N,)` floating point.
        labels: `(N,)`, 0 or 1.
    """
    if len(logits) > spool.IN_MEMORY and logits.dtype == torch.float32:
        return counted(logits, labels)
    if bool((labels == labels[0]).all()):
        return float("nan")
    from torchmetrics.functional.classification import binary_auroc

    # on ranks: torchmetrics would squash logits through a float32 sigmoid, which can merge distinct ones
    return float(binary_auroc(_ranks(logits), labels.long(), thresholds=None))


def counted(logits: Tensor, labels: Tensor) -> float:
    """`auc` of float32 logits by whole numbers of pairs: exact for up to 4 billion samples, in bounded memory."""

    def classes(rows: Tensor) -> Tensor:
        ones = labels[rows].double()
        return torch.stack([1 - ones, ones], 1)

    zeros = ones = twice = 0  # so far, and twice the pairs won
    for _, sums in tallies(logits, classes):
        own_zeros, own_ones = sums.long().unbind(1)
        below = own_zeros.cumsum(0) - own_zeros + zeros
        twice += int((own_ones * (2 * below + own_zeros)).sum())
        zeros, ones = zeros + int(own_zeros.sum()), ones + int(own_ones.sum())
    return twice / (2 * zeros * ones) if zeros and ones else float("nan")


def _ranks(values: Tensor) -> Tensor:
    """Dense ranks scaled into [0, 1], equal for equal values."""
    distinct, inverse = torch.unique(values, return_inverse=True)
    return inverse.double() / max(1, len(distinct) - 1)
