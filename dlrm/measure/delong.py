"""DeLong's covariance of the AUCs of several models on the same rows, by midranks in O(N log N)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 22  # numbers in float64 at once, 32 MB


class Placements(NamedTuple):
    """The placement values of one model's scores, whose mean over either class is the AUC."""

    auc: float
    values: NDArray[np.float32]  # (N,) in the order of the rows


def placements(scores: NDArray[Any], labels: NDArray[Any]) -> Placements | None:
    """Where each row lies among the rows of the other class.

    A row of label 1 has the share of rows of label 0 with a smaller score, a row of label 0 the share of rows of
    label 1 with a larger one, ties counted half: the structural components V10 and V01 of DeLong, DeLong and
    Clarke-Pearson (Biometrics 1988). As Sun and Xu (IEEE Signal Processing Letters 2014) show, they follow from
    midranks, which one sort gives.

    Args:
        scores: `(N,)`, larger for likelier rows of label 1.
        labels: `(N,)`, 0 or 1.

    Returns:
        None where some score is not a number, or a class has fewer than two rows, from which no variance follows.
    """
    positive = np.asarray(labels) > 0.5
    n, n1 = len(positive), int(positive.sum())
    n0 = n - n1
    if min(n0, n1) < 2 or not np.isfinite(scores).all():
        return None
    order = np.argsort(scores)
    ranked, is_positive = np.asarray(scores)[order], positive[order]
    heads = np.concatenate([[True], ranked[1:] != ranked[:-1]])  # the first of rows with one score
    del ranked
    whole: type[np.signedinteger[Any]] = np.int32 if n < 1 << 30 else np.int64
    starts = np.flatnonzero(heads).astype(whole)
    ends = np.append(starts[1:], whole(n))
    ones_before = np.concatenate([np.zeros(1, whole), np.cumsum(is_positive, dtype=whole)])
    # twice the rows of a class below a score, ties counted half
    ones = ones_before[starts] + ones_before[ends]
    del ones_before
    zeros = starts + ends - ones
    del starts, ends
    tie = np.cumsum(heads, dtype=whole) - whole(1)
    ordered = np.where(is_positive, zeros[tie] / (2 * n0), 1 - ones[tie] / (2 * n1))
    auc = float(ordered[is_positive].mean())
    values = np.empty(n, np.float32)
    values[order] = ordered
    return Placements(auc, values)


def covariance(values: NDArray[np.float32], aucs: NDArray[np.float64], labels: NDArray[Any]) -> NDArray[np.float64]:
    """The covariance `(R, R)` of the AUCs of R models over samples of rows: `S10 / n1 + S01 / n0` of DeLong et al.

    Memory beyond the arguments is bounded, whatever N.

    Args:
        values: `(R, N)` placement values, which may be mapped from a file.
        aucs: `(R,)`, their means.
        labels: `(N,)`, 0 or 1.
    """
    models, n = values.shape
    positive = np.asarray(labels) > 0.5
    n1 = int(positive.sum())
    weights = np.where(positive, n1 * (n1 - 1.0), (n - n1) * (n - n1 - 1.0)) ** -0.5
    total = np.zeros((models, models))
    size = max(1, _CHUNK // models)
    for start in range(0, n, size):
        part = values[:, start : start + size].astype(np.float64)
        part -= aucs[:, None]
        part *= weights[start : start + size]
        total += part @ part.T
    return total
