"""Hashing trick: n rows hashed into k (Weinberger et al. 2009); in chunks (Desai et al. 2022), in signed sums."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from typing_extensions import Self, Unpack

from embpress.compressors.by_recipe import Arrays
from embpress.compressors.cells import Cells
from embpress.compressors.distributed import tell_ranks
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.init import uniform_
from embpress.compressors.least_squares import from_linear
from embpress.compressors.methods.compositional import Compositional, part_width
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.kernels.recipes import Rule
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


class Hashed(Compositional):
    """Parts' rows by universal hashes.

    `h` is two rounds of `x ← (a x + b) mod P; x ← x xor (x >> 15)` modulo k, `P = 2038074743`: one round alone turns
    consecutive ids into an arithmetic progression, which for some `a` visits few of the rows.
    """

    def put_hashes(self, coefficients: Tensor, k: int, stride: int) -> None:
        """Part j hashes, by coefficients `(4, parts)`, into the k rows of the part tables that begin at `j stride`."""
        self.constants.put("coefficients", coefficients.contiguous())
        self.constants.put("base", torch.arange(self.parts, device="cpu") * stride)
        self.constants.put("slots", torch.full((1,), k, dtype=torch.int64, device="cpu"))

    def part_rows(self, ids: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """`h(i)` plus where the part starts; products stay below 2^62 for ids below 2^31."""
        return part_hash(ids.unsqueeze(-1), constants["coefficients"]) % constants["slots"] + constants["base"]

    def part_rules(self, arrays: Arrays) -> list[tuple[Rule, int, int, tuple[int, ...]]] | None:
        """A hash each."""
        (slots,) = arrays.watch(self.constants["slots"])
        bases, numbers = arrays.watch(self.constants["base"]), arrays.watch(self.constants["coefficients"])
        return [(Rule.HASH, slots, base, tuple(numbers[j :: self.parts])) for j, base in enumerate(bases)]

    def op_constants(self, constants: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The hashes' coefficients `(T, 4, parts)`, where the parts start and their size."""
        return constants["coefficients"], constants["base"], constants["slots"]


@register("hash")
class HashingTrick(Hashed):
    """Row `i` is row `h(i)` of a table of `k` rows, `h` as `Hashed` has it.

    With `parts = l` hash functions two ids collide in the whole row only where all `l` hashes do, in two forms:

    - `op=concat`: the row is `l` chunks, chunk j from row `h_j(i)` of a table `(k, D / l)` of its own (10000x sharing).
    - `op=add`: the row is the sum of the rows `h_j(i)` of one table `(k, D)` (Svenstrup et al. 2017, without
      their weights).

    With `sign` each row of the sum is times a hashed ±1, so that what other ids add has mean zero: for one part this is
    a count sketch (Charikar et al. 2002; the signs of Weinberger et al. 2009).

    Args:
        k: rows to hash into; default `⌈n / 10⌉`.
        parts: hash functions `l`; divides the width where they make chunks.
        op: `concat` or `add`; default `concat`, with signs `add`.
        sign: hashed signs, which go with sums.
    """

    size_knobs: ClassVar[tuple[str, ...]] = ("k",)

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        k: int | None = None,
        parts: int = 1,
        op: str | None = None,
        sign: bool = False,
        **options: Unpack[TableOptions],
    ) -> None:
        num_embeddings, embedding_dim = self.whole_sizes(num_embeddings, embedding_dim)
        k = math.ceil(num_embeddings / 10) if k is None else k
        if k < 1:
            raise InputError(f"hash: k={k}, at least one row is needed")
        op = _combination(op, sign)
        chunks = parts if op == "concat" else 1  # each of them has a table of its own
        super().__init__(num_embeddings, embedding_dim, k * chunks, parts, op, **options)
        self.k, self.sign, self.part_sizes = k, sign, [k] * chunks
        generator = None if self.part_tables.is_meta else options.get("generator")  # on meta nothing is drawn
        # rows and signs by hashes that are drawn independently
        drawn = draw_coefficients((4, parts * (1 + sign)), generator, num_embeddings, embedding_dim)
        self.put_hashes(drawn[:, :parts], k, stride=k if op == "concat" else 0)
        if sign:
            self.constants.put("sign_coefficients", drawn[:, parts:].contiguous())
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`, for a sum over the root of its terms: rows start with a full table's variance."""
        terms = self.parts if self.op == "add" else 1
        bound = 1 / math.sqrt(self.num_embeddings * terms)
        uniform_(self.own("part_tables"), -bound, bound, generator)

    def knobs(self) -> dict[str, Any]:
        """The method's own keywords as resolved; how parts are combined where they are not chunks."""
        chunks = {"op", "sign"} if self.op == "concat" else set()
        return {name: value for name, value in super().knobs().items() if name not in chunks}

    @property
    def backend(self) -> str:
        """As other methods say it; signed sums are made by torch."""
        return "torch" if self.sign else super().backend

    @property
    def gathers(self) -> bool:
        """With signs."""
        return self.sign

    def part_rules(self, arrays: Arrays) -> list[tuple[Rule, int, int, tuple[int, ...]]] | None:
        """A hash each; signs are not said."""
        return None if self.sign else super().part_rules(arrays)

    def part_signs(self, ids: Tensor, constants: dict[str, Tensor]) -> Tensor | None:
        """±1 by the last bit of a hash."""
        return 1 - 2 * (part_hash(ids.unsqueeze(-1), constants["sign_coefficients"]) & 1) if self.sign else None

    def cells(self, ids: Tensor) -> Cells:
        """As taken; a sum is the same in whatever order, and what is added and subtracted again is gone."""
        found = super().cells(ids)
        if self.op != "add":
            return found
        signs = self.part_signs(ids, {name: self.constants.on(ids.device, name) for name in self.constants})
        alike = found.first.unsqueeze(2) == found.first.unsqueeze(1)
        times = alike.long() if signs is None else alike * signs.unsqueeze(1)
        net, seen = times.sum(2), torch.tril(alike, -1).any(2)
        rows = (found.first * (2 * self.parts + 1) + net + self.parts).masked_fill(seen | (net == 0), -1)
        return replace(found, rows=rows.sort(dim=1).values, chance=chance_of_sums(self.k, self.parts, self.sign))

    def group_key(self) -> tuple[Any, ...]:
        """One call has signs or none."""
        return *super().group_key(), self.sign

    def _activation_bytes(self, batch_size: int) -> int:
        if not self.sign:
            return super()._activation_bytes(batch_size)
        # ids and rows, row numbers and signs
        return batch_size * (8 + self.embedding_dim * self.itemsize + self.parts * (8 + self.itemsize))

    @classmethod
    def for_budget(
        cls, n: int, dim: int, size: int, *, parts: int = 1, op: str | None = None, sign: bool = False
    ) -> dict[str, int]:
        """The most rows, at most n, that fit into `size` bytes."""
        part_width(dim, parts, _combination(op, sign))
        constants = 8 * ((5 + 4 * sign) * parts + 1)
        k = min(n, (size - constants) // (4 * dim))
        if k < 1:
            raise BudgetError(f"hash cannot hold a table of width {dim} in {size} bytes", 4 * dim + constants)
        return {"k": k}

    @classmethod
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """The table nearest to a trained one: a row (of a part) is the mean of the rows that are hashed to it, or
        the least squares where parts are summed.

        Keywords are the constructor's, or `budget` or `ratio` instead of k; see `least_squares.from_linear`.
        """
        return from_linear(cls, weight, knobs, nonnegative=not knobs.get("sign"))


def chance_of_sums(k: int, parts: int, sign: bool) -> float:
    """With which two sums of l rows, each drawn from k (and added or subtracted, drawn too), are the same sum.

    Without signs these are two multisets of l among k, with them a walk of 2 l steps on the grid of k dimensions that
    comes back. Both count by the k-th power of `Σ x^m / m!²`: its coefficient of `x^l` times `l!² / k^2l`, or times
    `(2 l)! / (2 k)^2l`.
    """
    series = [Fraction(1, math.factorial(m) ** 2) for m in range(parts + 1)]
    power = [Fraction(1)]
    for n in range(1, parts + 1):
        power.append(sum((k * j - n + j) * series[j] * power[n - j] for j in range(1, n + 1)) / Fraction(n))
    draws = math.factorial(2 * parts) if sign else math.factorial(parts) ** 2
    return float(power[parts] * draws / ((2 if sign else 1) * k) ** (2 * parts))


def _combination(op: str | None, sign: bool) -> str:
    """How the parts' rows are put together."""
    if op is None:
        return "add" if sign else "concat"
    if op not in ("concat", "add"):
        raise InputError(f"hash: op={op!r} is not one of concat, add")
    if sign and op != "add":
        raise InputError(f"hash: signs go with sums, op=add, not with op={op}")
    return op
