"""Test scores by how often ids occur in the training rows: head, torso, tail, unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embpress.dlrm.data import ClickData
from embpress.dlrm.data.assemble import lookups

BINS = ("head", "torso", "tail", "unseen")
ALL = "all"
# shares of a feature's training lookups by which its ids are the head, or still the torso
HEAD, TORSO = 0.5, 0.9
ECE_BINS = 10


def bins_of_ids(counts: Tensor) -> Tensor:
    """Which of `BINS` each row of a table is in, `(n,)` int64.

    The most frequent ids that together have half of the feature's training lookups are the head, those up to nine
    tenths the torso, the rest the tail; ids of one count are in one bin, that of the first of them. Row 0 (missing,
    unseen and rare ids) and what was never looked up is unseen, and its lookups do not count.

    Args:
        counts: `(n,)` int64, lookups of each row in the training rows.
    """
    known = counts.clone()
    known[0] = 0
    values, number, ids = known.unique(return_inverse=True, return_counts=True)
    traffic = (values * ids).double()
    more = traffic.flip(0).cumsum(0).flip(0) - traffic  # lookups of ids that are more frequent
    before = more / max(1.0, float(traffic.sum()))
    bins = (before >= HEAD).long() + (before >= TORSO).long()
    return bins.masked_fill(values == 0, BINS.index("unseen"))[number]


@dataclass(frozen=True)
class Frequencies:
    """The test part by how frequent the ids of its rows are.

    A row has an id in each of many features, and there is no one bin of it: its rarest id is nearly always a rare one
    where there are many features. So lookups are binned, not rows: a row weighs in each bin with the share of its
    lookups there, over the features that are compressed. With one such feature a row is in one bin.

    Attributes:
        weights: `(N, 4)` float32, of each test row in each of `BINS`; they add up to at most 1.
        ids: rows of the tables in each bin.
    """

    weights: Tensor
    ids: tuple[int, ...]

    @classmethod
    def of(cls, data: ClickData, features: Sequence[int]) -> Frequencies | None:
        """Those of the features with these numbers; None where there are none."""
        if not features:
            return None
        rows = len(data.test)
        weights, ids = torch.zeros(rows, len(BINS)), torch.zeros(len(BINS), dtype=torch.int64)
        for feature in features:
            bins = bins_of_ids(data.counts[feature])
            ids += torch.bincount(bins, minlength=len(BINS))
            own = bins[lookups(data.test, feature).long()]
            share = torch.full((len(own),), 1 / len(features))
            row = torch.arange(rows)
            if feature in data.test.bags:
                lengths = data.test.bags[feature].offsets.diff()
                row = row.repeat_interleave(lengths)
                share /= lengths.repeat_interleave(lengths)
            weights.view(-1).index_add_(0, row * len(BINS) + own, share)
        return cls(weights, tuple(ids.tolist()))

    def scores(self, logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
        """Scores of all rows and of each bin: see `weighted_scores`; a bin without lookups is left out.

        Args:
            logits, labels: `(N,)` of the test part.
        """
        total, found = float(self.weights.double().sum()), []
        everything: dict[str, Any] = {"name": ALL, "ids": sum(self.ids), "lookups": 1.0}
        found.append(everything | weighted_scores(logits, labels, torch.ones(len(labels))))
        for name, ids, weights in zip(BINS, self.ids, self.weights.unbind(1)):
            share = float(weights.double().sum()) / total if total else 0.0
            if share:
                found.append({"name": name, "ids": ids, "lookups": share} | weighted_scores(logits, labels, weights))
        return found


def weighted_scores(logits: Tensor, labels: Tensor, weights: Tensor) -> dict[str, float]:
    """Scores of rows that weigh differently.

    `auc` (exact, ties counted half, each pair by the product of its weights), `log_loss` (nats), `calibration` (sum of
    the predicted probabilities over the sum of clicks) and `ece`, the expected calibration error: rows in ten bins of
    equal weight by prediction, the mean distance of a bin's mean prediction from its share of clicks (Naeini et al.
    2015, with bins of equal mass). NaN where one class has no weight.

    Args:
        logits, labels, weights: `(N,)`; labels are 0 or 1.
    """
    keep = weights > 0
    logits, labels, weights = logits[keep].double(), labels[keep].double(), weights[keep].double()
    total = float(weights.sum())
    if not total:
        return dict.fromkeys(("auc", "log_loss", "calibration", "ece"), float("nan"))
    values, number = logits.unique(return_inverse=True)
    clicked = torch.zeros(len(values), dtype=torch.float64).index_add_(0, number, weights * labels)
    every = torch.zeros(len(values), dtype=torch.float64).index_add_(0, number, weights)
    missed = (every - clicked).clamp(min=0)
    clicks, misses = float(clicked.sum()), float((weights * (1 - labels)).sum())
    below = missed.cumsum(0) - missed / 2
    loss = F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")
    predicted = every * torch.sigmoid(values)
    place = ((every.cumsum(0) - every / 2) / total * ECE_BINS).long().clamp(max=ECE_BINS - 1)
    gaps = torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, place, predicted - clicked)
    return {
        "auc": float((clicked * below).sum()) / (clicks * misses) if clicks and misses else float("nan"),
        "log_loss": float(loss) / total,
        "calibration": float(predicted.sum()) / clicks if clicks else float("nan"),
        "ece": float(gaps.abs().sum()) / total,
    }
