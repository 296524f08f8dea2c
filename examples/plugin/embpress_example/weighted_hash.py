"""Hash embeddings: sums of a few hashed rows, weighted by what each id has learned (Svenstrup et al. 2017)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from embpress.compressors import BudgetError, Compressor, InputError, TableOptions, Tags
from embpress.compressors.init import normal_, uniform_

_32_BITS = 1 << 32


class WeightedHash(Compressor):
    """Row `i` is `Σ_j importance[i, j] · rows[h_j(i)]`, j below `parts`.

    Ids whose hashes all collide still have rows of their own, in one plane: `parts` numbers an id tell them apart, in
    `4 (n · parts + k · D)` bytes, so that a table of width D becomes at most `D / parts` times as small.

    Args:
        k: hashed rows; default `n // 16`, at least 1.
        parts: hashes of an id, and numbers that it keeps.
    """

    tags: ClassVar[Tags] = Tags(for_budget=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("k",)
    row_parameters: ClassVar[tuple[str, ...]] = ("importance", "rows")

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        k: int | None = None,
        parts: int = 2,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        self.k, self.parts = max(1, self.num_embeddings // 16) if k is None else k, parts
        if self.k < 1 or self.parts < 1:
            raise InputError(f"weighted-hash: at least one row and one part are needed, got {self.k} and {self.parts}")
        where = {"device": options.get("device"), "dtype": options.get("dtype")}
        self.importance = nn.Parameter(torch.empty(self.num_embeddings, self.parts, **where))
        self.rows = nn.Parameter(torch.empty(self.k, self.embedding_dim, **where))
        self.reset_parameters(options.get("generator"))

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Rows start with a full table's variance `1/(3n)`."""
        bound = self.num_embeddings**-0.5
        uniform_(self.rows, -bound, bound, generator)
        normal_(self.importance, 0, self.parts**-0.5, generator)

    def _lookup(self, ids: Tensor) -> Tensor:
        rows = F.embedding(self.slots(ids), self.rows)
        return (F.embedding(ids, self.importance).unsqueeze(-1) * rows).sum(1)

    def slots(self, ids: Tensor) -> Tensor:
        """`h_j(i)`, `(N, parts)`: two rounds of multiply and shift, all below 2^63; nothing of it is drawn or kept."""
        x = ids.unsqueeze(-1) * self.parts + torch.arange(self.parts, device=ids.device)
        for multiplier, shift in ((668265263, 15), (374761393, 13)):
            x = (x % _32_BITS * multiplier) % _32_BITS
            x = x ^ (x >> shift)
        return x % self.k

    def _activation_bytes(self, batch_size: int) -> int:
        """Ids, slots, what is looked up in both arrays, their products, the rows."""
        numbers = self.parts * (1 + 2 * self.embedding_dim) + self.embedding_dim
        return batch_size * (8 + 8 * self.parts + numbers * self.itemsize)

    @classmethod
    def for_budget(cls, n: int, dim: int, size: int, *, parts: int = 2) -> dict[str, int]:
        """As many rows as `size` bytes hold beside the numbers of the ids."""
        k = (size - 4 * n * parts) // (4 * dim)
        if k < 1:
            raise BudgetError(
                f"weighted-hash cannot hold {n} ids of {parts} numbers in {size} bytes", 4 * (n * parts + dim)
            )
        return {"k": min(k, n), "parts": parts}
