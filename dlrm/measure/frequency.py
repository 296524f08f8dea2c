"""Test scores by how often ids occur in the training rows: head, torso, tail, unseen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.data.assemble import lookups
from embpress.dlrm.measure import spool
from embpress.dlrm.measure.tally import PIECE, tallies

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
        weights, ids = spool.empty(len(data.test), len(BINS)), torch.zeros(len(BINS), dtype=torch.int64)
        bins = [bins_of_ids(data.counts[feature]).to(torch.int8) for feature in features]
        for of_table in bins:
            ids += torch.bincount(of_table, minlength=len(BINS))
        for start, part in zip(range(0, len(data.test), PIECE), data.test.split(PIECE)):
            own = torch.zeros(len(part), len(BINS))
            for feature, of_table in zip(features, bins):
                _add(own, part, feature, of_table, 1 / len(features))
            weights[start : start + len(part)] = own
        return cls(weights, tuple(ids.tolist()))

    def scores(self, logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
        """Scores of all rows and of each bin: see `weighted_scores`; a bin without lookups is left out.

        Args:
            logits, labels: `(N,)` of the test part.
        """
        sums = torch.stack([some.double().sum(0) for some in self.weights.split(PIECE)]).sum(0)
        total, found = float(sums.sum()), []
        everything: dict[str, Any] = {"name": ALL, "ids": sum(self.ids), "lookups": 1.0}
        found.append(everything | weighted_scores(logits, labels, torch.ones(()).expand(len(labels))))
        for name, ids, weights, own in zip(BINS, self.ids, self.weights.unbind(1), sums.tolist()):
            share = own / total if total else 0.0
            if share:
                found.append({"name": name, "ids": ids, "lookups": share} | weighted_scores(logits, labels, weights))
        return found


def _add(weights: Tensor, part: Part, feature: int, bins: Tensor, share: float) -> None:
    """Adds the share that a feature has of each row `(n, 4)` to the bins `(rows of the table,)` of its ids."""
    own = bins[lookups(part, feature).long()].long()
    shares = torch.full((len(own),), share)
    row = torch.arange(len(part))
    if feature in part.bags:
        lengths = part.bags[feature].offsets.diff()
        row = row.repeat_interleave(lengths)
        shares /= lengths.repeat_interleave(lengths)
    weights.view(-1).index_add_(0, row * len(BINS) + own, shares)


def weighted_scores(logits: Tensor, labels: Tensor, weights: Tensor) -> dict[str, float]:
    """Scores of rows that weigh differently.

    `auc` (exact, ties counted half, each pair by the product of its weights), `log_loss` (nats), `calibration` (sum of
    the predicted probabilities over the sum of clicks) and `ece`, the expected calibration error: rows in ten bins of
    equal weight by prediction, the mean distance of a bin's mean prediction from its share of clicks (Naeini et al.
    2015, with bins of equal mass). NaN where one class has no weight. Memory is bounded, whatever N.

    Args:
        logits, labels, weights: `(N,)`; labels are 0 or 1.
    """
    total = loss = 0.0
    for part in (slice(start, start + PIECE) for start in range(0, len(logits), PIECE)):
        keep = weights[part] > 0
        some, clicked, weight = (column[part][keep].double() for column in (logits, labels, weights))
        total += float(weight.sum())
        loss += float(F.binary_cross_entropy_with_logits(some, clicked, weight, reduction="sum"))
    if not total:
        return dict.fromkeys(("auc", "log_loss", "calibration", "ece"), float("nan"))
    every = clicks = misses = won = predicted = 0.0  # of smaller logits
    gaps = torch.zeros(ECE_BINS, dtype=torch.float64)
    for values, sums in _ascending(logits, labels, weights):
        own, own_clicks = sums.unbind(1)
        own_misses = (own - own_clicks).clamp(min=0)
        won += float((own_clicks * (own_misses.cumsum(0) - own_misses / 2 + misses)).sum())
        expected = own * torch.sigmoid(values)
        place = ((own.cumsum(0) - own / 2 + every) / total * ECE_BINS).long().clamp(max=ECE_BINS - 1)
        gaps.index_add_(0, place, expected - own_clicks)
        every, clicks, misses = (
            every + float(own.sum()),
            clicks + float(own_clicks.sum()),
            misses + float(own_misses.sum()),
        )
        predicted += float(expected.sum())
    return {
        "auc": won / (clicks * misses) if clicks and misses else float("nan"),
        "log_loss": loss / total,
        "calibration": predicted / clicks if clicks else float("nan"),
        "ece": float(gaps.abs().sum()) / total,
    }


def _ascending(logits: Tensor, labels: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Distinct logits `(V,)` float64, ascending, with the weights of all their rows and of the clicked ones `(V, 2)`.

    All come at once, or of very many rows range by range.
    """
    if len(logits) > spool.IN_MEMORY and logits.dtype == torch.float32:
        found = tallies(logits, lambda rows: _both(labels[rows], weights[rows]))
        yield from ((values.double(), sums) for values, sums in found)
        return
    keep = weights > 0
    values, number = logits[keep].double().unique(return_inverse=True)
    both = _both(labels[keep], weights[keep])
    yield values, torch.zeros(len(values), 2, dtype=torch.float64).index_add_(0, number, both)


def _both(labels: Tensor, weights: Tensor) -> Tensor:
    """The weights of rows, and what of them is of clicks, `(n, 2)` float64."""
    return torch.stack([weights.double(), weights.double() * labels.double()], 1)
