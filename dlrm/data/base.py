"""What every data source becomes: three parts of labels, dense values and ids, and what is known about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device, itself where it is there already.

    It goes to CUDA by way of page-locked memory, so that neither the host nor the work queued before waits for it.
    """
    device = torch.device(device)
    if device.type == "cuda" and tensor.device.type == "cpu" and tensor.numel():
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass
class Bags:
    """Jagged ids: row r holds `values[offsets[r]:offsets[r + 1]]`, possibly nothing.

    Attributes:
        values: `(total,)` int32 or int64.
        offsets: `(N + 1,)` int64, starts at 0 and ends at `total`.
    """

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def slice(self, start: int, stop: int) -> Bags:
        """Rows `start` to `stop` (exclusive); `values` is a view, `offsets` start at 0 again."""
        offsets = self.offsets[start : stop + 1]
        return Bags(self.values[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0])

    def to(self, device: torch.device | str) -> Bags:
        """The same rows on a device; see `moved`."""
        return Bags(moved(self.values, device), moved(self.offsets, device))

    def take(self, index: Tensor) -> Bags:
        """The rows `index`, `(M,)` int64, in that order; rows may repeat."""
        first = self.offsets[index]
        lengths = self.offsets[index + 1] - first
        offsets = torch.zeros(len(index) + 1, dtype=torch.int64)
        torch.cumsum(lengths, 0, out=offsets[1:])
        # position p of the output reads values[first[row of p] + (p - start of that row)]
        shift = torch.repeat_interleave(first - offsets[:-1], lengths)
        return Bags(self.values.index_select(0, shift.add_(torch.arange(len(shift)))), offsets)


@dataclass
class Part:
    """One split of the data: N rows.

    Attributes:
        labels: `(N,)` float32, 0 or 1.
        dense: `(N, num_dense)` float32, already `log(1 + max(x, 0))`; missing is 0.
        ids: `(N, F)` int32 (int64 only where a table has 2**31 rows or more); column f is 0 where f is multi-hot.
        bags: feature index to its bags, for multi-hot features only.
    """

    labels: Tensor
    dense: Tensor
    ids: Tensor
    bags: dict[int, Bags] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def slice(self, start: int, stop: int) -> Part:
        """Rows `start` to `stop` (exclusive, cut to the length, as Python slices are) as views."""
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        bags = {f: b.slice(start, stop) for f, b in self.bags.items()}
        return Part(self.labels[start:stop], self.dense[start:stop], self.ids[start:stop], bags)

    def split(self, size: int) -> Iterator[Part]:
        """Consecutive slices of `size` rows, the last perhaps shorter; views."""
        for start in range(0, len(self), size):
            yield self.slice(start, start + size)

    def to(self, device: torch.device | str) -> Part:
        """The same rows on a device; see `moved`."""
        bags = {f: b.to(device) for f, b in self.bags.items()}
        return Part(moved(self.labels, device), moved(self.dense, device), moved(self.ids, device), bags)

    def take(self, index: Tensor) -> Part:
        """The rows `index`, `(M,)` int64 in 0..N-1, in that order, copied."""
        bags = {f: b.take(index) for f, b in self.bags.items()}
        # `index_select` copies whole rows; indexing by a tensor takes four times as long
        labels, dense, ids = (column.index_select(0, index) for column in (self.labels, self.dense, self.ids))
        return Part(labels, dense, ids, bags)


def joined(parts: Sequence[Part]) -> Part:
    """The rows of all, copied, one part after the other; at least one part."""
    bags = {}
    for f in parts[0].bags:
        several = [part.bags[f] for part in parts]
        lengths = torch.cat([bag.offsets.diff() for bag in several])
        offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
        torch.cumsum(lengths, 0, out=offsets[1:])
        values = [bag.values[int(bag.offsets[0]) : int(bag.offsets[-1])] for bag in several]
        bags[f] = Bags(torch.cat(values), offsets)
    labels, dense, ids = (torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "dense", "ids"))
    return Part(labels, dense, ids, bags)


@dataclass
class ClickData:
    """Click data, split and encoded.

    Row 0 of every table is for missing, unseen and rare ids; the other rows are in order of falling frequency in the
    rows trained on (`train`), unless a random one was asked for (`about["number_ids"]`).

    Attributes:
        name: short name for reports.
        format: a file of `formats/`.
        features: names of the F sparse features.
        num_embeddings: rows of each feature's table, row 0 included.
        dense_names: names of the dense columns; `["(constant)"]`, a column of ones, where the data have none.
        train: what is trained on.
        valid: the last tenth of the training part.
        test: what is only measured on.
        counts: per feature `(n,)` int64, lookups of each table row in the rows trained on (`train` alone).
        row0_share: per feature, the share (0 to 1) of the test part's lookups that fall on row 0.
        fingerprint: 16 hex digits over everything that reaches a model.
        best_auc: AUC of the true logit on the test part, which only synthetic data knows.
        about: where it came from, ready for JSON.
    """

    name: str
    format: str
    features: list[str]
    num_embeddings: list[int]
    dense_names: list[str]
    train: Part
    valid: Part
    test: Part
    counts: list[Tensor]
    row0_share: list[float]
    fingerprint: str
    best_auc: float | None = None
    about: dict[str, Any] = field(default_factory=dict)
