"""A folded click model as a program answers it: from dense values and ids to click probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from embpress.compressors import Compressor
from embpress.dlrm.data import Part
from embpress.dlrm.models.base import ClickModel

Inputs = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]
OUT_OF_RANGE = "an id is out of range of its table"
BAD_OFFSETS = "offsets must start at 0, not decrease and end within the values"


class Served(nn.Module):
    """Click probabilities, with every id looked at.

    An id out of range, and offsets that make no bags, are an error where the program's runtime knows assertions (torch
    does), and make the probability NaN where it does not (ONNX).

    Args:
        model: in eval mode, its tables folded.
        multi_hot: the features with bags of ids, ascending.
    """

    rows: Tensor

    def __init__(self, model: ClickModel, multi_hot: Sequence[int] = ()) -> None:
        super().__init__()
        self.model, self.multi_hot = model, list(multi_hot)
        rows = torch.tensor([config.num_embeddings for config in model.tables.configs])
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, dense: Tensor, ids: Tensor, bags: Sequence[tuple[Tensor, Tensor]] = ()) -> Tensor:
        """Click probabilities.

        Args:
            dense: `(B, num_dense)` float32.
            ids: `(B, F)` int64, one id a table; columns of multi-hot features hold zeros.
            bags: of each multi-hot feature its values `(N,)` int64 and offsets `(B,)` int64, where each bag starts.

        Returns:
            `(B,)` float32.
        """
        known = ((ids >= 0) & (ids < self.rows)).all(1)
        torch._assert_async(known.all(), OUT_OF_RANGE)
        if bags:
            logits, unknown = self._with_bags(dense, ids, bags)
            known = known & (unknown == 0)
        else:
            logits = self.model(dense, ids)
        return torch.where(known, torch.sigmoid(logits.float()), torch.nan)

    def _with_bags(self, dense: Tensor, ids: Tensor, bags: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Logits `(B,)`, and how much is wrong with the ids in each sample's bags."""
        by_feature = dict(zip(self.multi_hot, bags))
        unknown = ids.new_zeros(ids.shape[0])
        rows = []
        for t, table in enumerate(self.model.tables.tables):
            if t not in by_feature:
                rows.append(table.lookup(ids[:, t]))
                continue
            values, offsets = by_feature[t]
            within = (values >= 0) & (values < self.rows[t])
            torch._assert_async(within.all(), OUT_OF_RANGE)
            before = torch.cat([offsets.new_zeros(1), offsets])[:-1]
            ascending = (offsets >= before).all() & (offsets[:1] == 0).all()
            right = ascending & (offsets <= values.shape[0]).all()
            torch._assert_async(right, BAD_OFFSETS)
            # how many bags have begun; those that are empty at the end begin after the last value
            begun = values.new_zeros(values.shape[0] + 1).index_add(0, offsets, torch.ones_like(offsets))
            sample = begun.cumsum(0)[:-1] - 1
            unknown = unknown.index_add(0, sample, (~within).long()) + (~right).long()
            rows.append(_pooled(table, values, sample, ids.shape[0]))
        return self.model.score(dense, torch.stack(rows, dim=1)), unknown


def _pooled(table: Compressor, values: Tensor, sample: Tensor, size: int) -> Tensor:
    """Bags of rows `(size, D)` of ids `(N,)`, each of which belongs to a sample."""
    rows = table.lookup(values)
    pooled = rows.new_zeros(size, rows.shape[1]).index_add(0, sample, rows)
    if table.mode == "sum":
        return pooled
    counts = sample.new_zeros(size).index_add(0, sample, torch.ones_like(sample))
    return pooled / counts.clamp(min=1).unsqueeze(1)


def inputs_of(part: Part) -> Inputs:
    """What `Served.forward` takes of a part of the data."""
    dense, ids = part.dense, part.ids.long()
    if not part.bags:
        return dense, ids
    return dense, ids, [(part.bags[f].values.long(), part.bags[f].offsets[:-1]) for f in sorted(part.bags)]


def drawn_inputs(model: ClickModel, multi_hot: Sequence[int], samples: int, seed: int = 0) -> Inputs:
    """Inputs drawn evenly from all ids, the first and the last of each table among them where there is room."""
    generator = Generator().manual_seed(seed)
    sizes = [config.num_embeddings for config in model.tables.configs]

    def draw(n: int, count: int) -> Tensor:
        ids = torch.randint(n, (count,), generator=generator)
        ids[:1], ids[-1:] = n - 1, 0
        return ids

    dense = torch.rand(samples, model.num_dense, generator=generator)
    ids = torch.stack([draw(n, samples) for n in sizes], dim=1)
    if not multi_hot:
        return dense, ids
    ids[:, multi_hot] = 0
    # bags of none to four ids
    bags = []
    for f in multi_hot:
        lengths = torch.arange(samples) % 5
        bags.append((draw(sizes[f], int(lengths.sum())), lengths.cumsum(0) - lengths))
    return dense, ids, bags
