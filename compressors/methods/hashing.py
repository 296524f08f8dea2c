"""Hashing trick: n rows hashed into k (Weinberger et al. 2009); in chunks as in 10000x sharing (Desai et al.)."""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from typing_extensions import Self, Unpack

from embpress.compressors.base import TableOptions
from embpress.compressors.distributed import tell_ranks
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.init import uniform_
from embpress.compressors.least_squares import from_linear
from embpress.compressors.methods.compositional import Compositional, part_width
from embpress.compressors.registry import register
from embpress.kernels.reference import ROBE_PRIME, part_hash


def draw_coefficients(shape: tuple[int, ...], generator: Generator | None, *table: int) -> Tensor:
    """Coefficients of universal hashes, int64 in `1 … P - 1`, on the CPU, so that a seed is the same everywhere.

    Without a generator they follow from the table's own numbers: processes that were seeded differently agree.
    """
    tell_ranks(generator)
    if generator is None or generator.device.type != "cpu":
        seed = functools.reduce(lambda seed, number: (seed * 1_000_003 + number) % 2**62, table, 0)
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        generator = Generator().manual_seed(seed)
    return torch.randint(1, ROBE_PRIME, shape, generator=generator, device="cpu")


@register("hash")
class HashingTrick(Compositional):
    """Row `i` is row `h(i)` of a table of `k` rows.

    `h` is two rounds of `x ← (a x + b) mod P; x ← x xor (x >> 15)` modulo k, `P = 2038074743`: one round alone turns
    consecutive ids into an arithmetic progression, which for some `a` visits few of the rows.

    With `parts = l` the row is `l` chunks, chunk j from row `h_j(i)` of a table `(k, D / l)` of its own: two ids
    collide in the whole row only where all `l` hashes do.

    Args:
        k: rows to hash into; default `⌈n / 10⌉`.
        parts: hash functions `l`; divides the width.
    """

    size_knobs: ClassVar[tuple[str, ...]] = ("k",)

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        k: int | None = None,
        parts: int = 1,
        **options: Unpack[TableOptions],
    ) -> None:
        num_embeddings, embedding_dim = self.whole_sizes(num_embeddings, embedding_dim)
        k = math.ceil(num_embeddings / 10) if k is None else k
        if k < 1:
            raise InputError(f"hash: k={k}, at least one row is needed")
        super().__init__(num_embeddings, embedding_dim, k * parts, parts, "concat", **options)
        self.k, self.part_sizes = k, [k] * parts
        generator = None if self.part_tables.is_meta else options.get("generator")  # on meta nothing is drawn
        self.constants.put("coefficients", draw_coefficients((4, parts), generator, num_embeddings, embedding_dim))
        self.constants.put("base", torch.arange(parts, device="cpu") * k)
        self.constants.put("slots", torch.full((1,), k, dtype=torch.int64, device="cpu"))
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`: the rows start with a full table's variance."""
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.own("part_tables"), -bound, bound, generator)

    def part_rows(self, ids: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """`h(i)` plus where the part starts; products stay below 2^62 for ids below 2^31."""
        return part_hash(ids.unsqueeze(-1), constants["coefficients"]) % constants["slots"] + constants["base"]

    def op_constants(self, constants: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The hashes' coefficients `(T, 4, parts)`, where the parts start and their size."""
        return constants["coefficients"], constants["base"], constants["slots"]

    @classmethod
    def for_budget(cls, n: int, dim: int, size: int, *, parts: int = 1) -> dict[str, int]:
        """The most rows, at most n, that fit into `size` bytes."""
        part_width(dim, parts, "concat")
        constants = 8 * (5 * parts + 1)
        k = min(n, (size - constants) // (4 * dim))
        if k < 1:
            raise BudgetError(f"hash cannot hold a table of width {dim} in {size} bytes", 4 * dim + constants)
        return {"k": k}

    @classmethod
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """The table nearest to a trained one: a row (of a part) is the mean of the rows that are hashed to it.

        Keywords are the constructor's, or `budget` or `ratio` instead of k; see `least_squares.from_linear`.
        """
        return from_linear(cls, weight, knobs, nonnegative=True)
