"""What stands where a module of the model stood: an embedding, a bag, or a linear layer that had the same weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from embpress.compressors.bags import as_bags, check_form
from embpress.compressors.base import Compressor
from embpress.compressors.options import TableOptions
from embpress.compressors.tables.conversion.linear import linear
from embpress.kernels import ops


class TableUser(nn.Module):
    """A module that answers from a compressed table.

    Where several modules use one table the first one holds it, and the others look it up there: its parameters have one
    name in the model.

    Args:
        table: the table to hold, or the user that holds it.

    Attributes:
        table: the compressor that answers.
    """

    table: Compressor

    def __init__(self, table: Compressor | TableUser) -> None:
        super().__init__()
        if isinstance(table, TableUser):
            self.__dict__["_holder"] = table  # not through nn.Module, to which it would be a child
        else:
            self.table = table

    def __getattr__(self, name: str) -> Any:
        """The table where another user holds it; `weight` is what the table makes of it."""
        if name == "table" and "_holder" in self.__dict__:
            return self.__dict__["_holder"].table
        if name == "weight":
            return self.table.weight
        return super().__getattr__(name)


class CompressedEmbedding(TableUser):
    """Stands where an `nn.Embedding` stood: ids `(*)` → `(*, D)`, the padding row zero and never trained."""

    def __init__(self, table: Compressor | TableUser, padding_idx: int | None = None) -> None:
        super().__init__(table)
        self.num_embeddings, self.embedding_dim = self.table.num_embeddings, self.table.embedding_dim
        self.padding_idx = padding_idx

    def forward(self, input: Tensor) -> Tensor:
        """Rows of `input`, any shape of int32 or int64."""
        # as bags of one id, which tables that learn from what is looked up in training take notice of
        rows = self.table(input.reshape(-1, 1)).view(*input.shape, self.embedding_dim)
        if self.padding_idx is None or self.padding_idx == self.table.padding_idx:
            return rows
        return rows.masked_fill(input.eq(self.padding_idx).unsqueeze(-1), 0)

    def extra_repr(self) -> str:
        """Shape and padding."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class CompressedEmbeddingBag(TableUser):
    """Stands where an `nn.EmbeddingBag` stood that shared its weight with other modules, and pools as that one did.

    Args:
        table: of mode `sum`, with the last offset and without padding, or one that pools as this bag does.
        mode, include_last_offset, padding_idx: of this bag.
    """

    def __init__(
        self, table: Compressor | TableUser, mode: str, include_last_offset: bool, padding_idx: int | None
    ) -> None:
        super().__init__(table)
        self.num_embeddings, self.embedding_dim = self.table.num_embeddings, self.table.embedding_dim
        self.mode, self.include_last_offset, self.padding_idx = mode, include_last_offset, padding_idx

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """See `Compressor.forward`."""
        table, own = self.table, (self.mode, self.include_last_offset, self.padding_idx)
        if own == (table.mode, table.include_last_offset, table.padding_idx):
            return table(input, offsets, per_sample_weights)
        check_form(input, offsets, per_sample_weights, mode=self.mode, include_last_offset=self.include_last_offset)
        ids, offsets, weights, extra = as_bags(input, offsets, per_sample_weights, self.include_last_offset)
        if offsets is None:  # a bag of one id: its sum is its mean
            pooled = table(ids, None, weights)
            return pooled if self.padding_idx is None else pooled.masked_fill(ids == self.padding_idx, 0)
        offsets = ops.check_offsets(offsets, ids.shape[0])
        if self.padding_idx is not None:
            keep = ids != self.padding_idx
            offsets = nn.functional.pad(keep.cumsum(0), (1, 0))[offsets]
            ids, weights = ids[keep], None if weights is None else weights[keep]
        sums = table(ids, offsets, weights)
        out = sums if self.mode == "sum" else sums / offsets.diff().clamp(min=1).unsqueeze(1)
        return out[:-extra] if extra else out

    def extra_repr(self) -> str:
        """Shape and pooling."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}{padding}"


class CompressedLinear(TableUser):
    """Stands where an `nn.Linear` stood that had a table's weight; rows are written out in blocks, see `linear`."""

    def __init__(self, table: Compressor | TableUser, bias: nn.Parameter | None) -> None:
        super().__init__(table)
        self.in_features, self.out_features = self.table.embedding_dim, self.table.num_embeddings
        self.register_parameter("bias", bias)

    def forward(self, input: Tensor) -> Tensor:
        """`(*, D)` → `(*, n)`."""
        return linear(self.table, input, self.bias)

    def extra_repr(self) -> str:
        """Shape and bias."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def pooling(users: Sequence[Any]) -> TableOptions:
    """Options of a table that all of these embedding modules can answer from."""
    ways = {(user.mode, user.include_last_offset) for user in users if isinstance(user, nn.EmbeddingBag)}
    padding = {user.padding_idx for user in users}
    if len(padding) > 1 or len(ways) > 1:
        return TableOptions(mode="sum", include_last_offset=bool(ways), padding_idx=None)
    mode, last = ways.pop() if ways else ("sum", False)
    return TableOptions(mode=mode, include_last_offset=last, padding_idx=padding.pop())
