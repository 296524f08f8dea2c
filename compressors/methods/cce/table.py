"""CCE: clustered compositional embeddings (Tsang and Ahle 2023, "Clustering the Sketch")."""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array
from embpress.compressors.distributed import made_by_first
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.init import uniform_
from embpress.compressors.integers import Constants, Later
from embpress.compressors.least_squares import fit
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.cce.clustering import Rows, clustered
from embpress.compressors.methods.cce.group import CCEGroup
from embpress.compressors.methods.cce.pointers import hashed_pointers, packed_bytes, pointed, pointer_bits
from embpress.compressors.methods.compositional import part_width
from embpress.compressors.methods.hashing import Hashed, draw_coefficients
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import DenseRows, finite, options_like, sized
from embpress.kernels.reference import ROBE_PRIME

# of a budget, the most that goes into pointers
_POINTER_SHARE = 0.5


@register("cce")
class CCE(Hashed):
    """Row `i` is `parts` chunks, chunk j `centres[j k + p_j(i)] + part_tables[j hashed + h_j(i)]`: a row by a learned
    pointer and one by a hash.

    Pointers start as hashes. At given times in training the chunks of all rows, as they are then, are clustered by
    k-means: p points to the nearest centre, h is drawn anew, and its rows start at what the centres leave. Then it
    trains on, the optimizer's state of all rows beginning anew. Pointers take `⌈log2 k⌉` bits each, in memory as in the
    ledger. Without `begin_training` and `maintain` (see `embpress.compressors`) nothing is clustered.

    Args:
        k: centres a chunk; default `⌈n / 20⌉`. Sized by a budget, a power of two, so that no bit of a pointer is idle.
        hashed: rows a chunk that ids are hashed into; default k, sized by a budget what is left.
        parts: chunks, which divide the width; default 2, for an odd width 1.
        clusterings: how often in training, 0 for never.
        every: epochs from one clustering to the next, the first after as many; of a training too short for that, the
            clusterings divide it evenly.
        residual: hashed rows start at the mean of what the centres leave of their ids, not at zero.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, for_budget=True, from_dense=True, maintain=True)
    stacked: ClassVar[tuple[str, ...]] = ("part_tables", "centres")
    row_parameters: ClassVar[tuple[str, ...]] = ("part_tables", "centres")
    size_knobs: ClassVar[tuple[str, ...]] = ("hashed",)
    training_knobs: ClassVar[tuple[str, ...]] = ("clusterings", "every", "residual")
    remembers: ClassVar[tuple[str, ...]] = ("_steps", "_replaced")
    group = CCEGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        k: int | None = None,
        hashed: int | None = None,
        parts: int | None = None,
        clusterings: int = 2,
        every: float = 1.0,
        residual: bool = True,
        **options: Unpack[TableOptions],
    ) -> None:
        num_embeddings, embedding_dim = self.whole_sizes(num_embeddings, embedding_dim)
        k = math.ceil(num_embeddings / 20) if k is None else k
        hashed = k if hashed is None else hashed
        if not 1 <= k < 2**31 or hashed < 1:
            raise InputError(f"cce: k={k} and hashed={hashed}, at least one row of each is needed")
        if clusterings < 0 or not 0 < every < math.inf:
            raise InputError(f"cce: clusterings={clusterings} from 0 are made every={every:g} epochs, more than none")
        parts = _parts(embedding_dim, parts)
        super().__init__(num_embeddings, embedding_dim, hashed * parts, parts, "concat", **options)
        self.k, self.hashed, self.clusterings, self.every, self.residual = k, hashed, clusterings, every, residual
        self.part_sizes = [hashed] * parts
        width, device = embedding_dim // parts, options.get("device")
        self.centres = nn.Parameter(torch.empty(parts * k, width, device=device, dtype=options.get("dtype")))
        generator = None if self.centres.is_meta else options.get("generator")  # on meta nothing is drawn
        drawn = draw_coefficients((4, 2 * parts), generator, num_embeddings, embedding_dim)
        self.put_hashes(drawn[:, :parts], hashed, stride=hashed)
        first = functools.partial(hashed_pointers, drawn[:, parts:], num_embeddings, k)
        later = Later(packed_bytes(num_embeddings * parts, pointer_bits(k)) // 8, first)
        self.pointers = Constants({"words": later if self.centres.is_meta else first()})
        # what hashes and pointers began as, from which the next ones follow, and how many clusterings there were
        self.course = Constants({"drawn": drawn, "clustered": torch.zeros(1, dtype=torch.int64, device="cpu")})
        self._due: frozenset[int] = frozenset()
        self._steps, self._replaced = 0, False
        self._draw(options.get("generator"))

    @torch.no_grad()
    def _draw(self, generator: Generator | None) -> None:
        bound = 1 / math.sqrt(2 * self.num_embeddings)
        for name in ("part_tables", "centres"):
            uniform_(self.own(name), -bound, bound, generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√(2n), 1/√(2n))`, so that rows start with a full table's variance; pointers start as hashes again."""
        self._draw(generator)
        if "drawn" in self.course:
            drawn = self.course["drawn"]
            self.constants["coefficients"].copy_(drawn[:, : self.parts])
            self.pointers["words"].copy_(hashed_pointers(drawn[:, self.parts :], self.num_embeddings, self.k))
            self.course["clustered"].zero_()

    # --- lookups ------------------------------------------------------------------------------------------------------

    def arrays(self) -> tuple[Array, ...]:
        """Hashed rows and centres, those of each chunk with values of their own size."""
        width = self.embedding_dim // self.parts
        sizes = {"part_tables": self.hashed, "centres": self.k}
        return tuple(Array(name, self.parts * k, width, segments=(k,) * self.parts) for name, k in sizes.items())

    def numbers(self) -> tuple[int, int, int]:
        """Ones of a pointer, its bits, and centres a chunk."""
        bits = pointer_bits(self.k)
        return (1 << bits) - 1, bits, self.k

    def _activation_bytes(self, batch_size: int) -> int:
        # the hashed rows, the centres' and their numbers
        return super()._activation_bytes(batch_size) + batch_size * (
            self.embedding_dim * self.itemsize + 8 * self.parts
        )

    # --- clustering ---------------------------------------------------------------------------------------------------

    def begin_training(self, steps: int, epochs: int) -> None:
        """Sets the steps at which rows are clustered."""
        between = min(self.every * steps / epochs, steps / (self.clusterings + 1))
        due = (max(1, round(between * (number + 1))) for number in range(self.clusterings))
        self._due, self._steps = frozenset(step for step in due if step < steps), 0
        if self._due:
            self._whole()

    def maintain(self, step: int | None = None) -> dict[str, Tensor]:
        """Clusters where it is time; after a clustering all rows hold something else.

        Call it once a step, after the backward and before the optimizer's step; `step` is for methods that keep no
        count of their own.
        """
        due, self._steps = self._steps in self._due, self._steps + 1
        if due and any(self.whole(name).requires_grad for name in self.row_parameters):
            self.cluster()
        if not self._replaced:
            return {}
        self._replaced = False
        starts = {name: self.row_offset_in(name) for name in self.row_parameters}
        return {
            name: torch.arange(start, start + len(self.own(name)), device=self.device) for name, start in starts.items()
        }

    @torch.no_grad()
    def cluster(self) -> None:
        """Clusters the rows as they are now; the next `maintain` says that all of them are other ones.

        Of ranks that were synchronized the first one clusters for all. Rows that are not finite stay as they are.

        Raises:
            InputError: parameters that are sharded, parametrized or pruned, or a folded table.
        """
        self._whole()
        if not all(bool(self.own(name).isfinite().all()) for name in self.row_parameters):
            return
        self.course["clustered"].add_(1)
        generator = self._generator()
        coefficients = draw_anew(self.constants["coefficients"], generator)

        def make() -> tuple[Tensor, ...]:
            return self._made(self._present(), coefficients, generator)

        self._put(coefficients, *made_by_first(self, make))
        for name in self.row_parameters:
            self._drop_gradient(name)
        self._replaced = True

    def _whole(self) -> None:
        """Refuses what cannot be written to as a whole."""
        if "drawn" not in self.course:
            raise InputError("cce: a folded table is not clustered")
        for name in self.row_parameters:
            held = self.whole(name)
            if type(held).__name__ == "DTensor":
                raise InputError("cce: sharded tables cannot be clustered: shard none, or train with clusterings=0")
            if not isinstance(held, nn.Parameter):
                raise InputError("cce: parametrized or pruned tables cannot be clustered: train with clusterings=0")

    def _generator(self) -> Generator:
        """Of the draws of this clustering."""
        seed = int(self.course["drawn"][0, 0]) * 2**20 + int(self.course["clustered"])
        return Generator().manual_seed(seed)

    def _present(self) -> Rows:
        """Rows as they are, on the CPU."""
        width = torch.float64 if self.itemsize == 8 else torch.float32
        centres, hashed = (self.own(name).detach().to("cpu", width) for name in ("centres", "part_tables"))
        constants = {name: self.constants[name] for name in self.constants}

        def rows(start: int, stop: int) -> Tensor:
            ids = torch.arange(start, stop)
            near = centres[pointed(ids, self.parts, self.pointers["words"], *self.numbers())]
            return (near + hashed[self.part_rows(ids, constants)]).flatten(1)

        return rows

    def _made(self, rows: Rows, coefficients: Tensor, generator: Generator) -> tuple[Tensor, ...]:
        """Centres, hashed rows and pointers that are near to these rows."""
        constants = {"coefficients": coefficients, "slots": self.constants["slots"], "base": self.constants["base"]}
        hashes = functools.partial(self.part_rows, constants=constants)
        sizes = (self.num_embeddings, self.parts, self.k, self.hashed)
        return clustered(rows, *sizes, hashes, self.residual, generator)

    def _put(self, coefficients: Tensor, centres: Tensor, hashed: Tensor, words: Tensor) -> None:
        self.own("centres").copy_(centres)
        self.own("part_tables").copy_(hashed)
        self.pointers["words"].copy_(words)
        self.constants["coefficients"].copy_(coefficients)

    def _drop_gradient(self, name: str) -> None:
        """Of rows that are no more; the gradients of other tables of the group stay."""
        grad, start, count = self.whole(name).grad, self.row_offset_in(name), len(self.own(name))
        if grad is None:
            return
        if grad.is_sparse:
            index = grad._indices()[0]
            grad._values()[(index >= start) & (index < start + count)] = 0
        else:
            grad[start : start + count] = 0

    # --- copies and bytes ---------------------------------------------------------------------------------------------

    def data(self) -> Tensor:
        """Pointers, and what is needed to go on clustering."""
        course = [self.course[name].flatten() for name in self.course]
        return torch.cat([self.pointers["words"].view(torch.int64), *course])

    def take_data(self, data: Tensor) -> None:
        """See `Configured.take_data`."""
        words = self.pointers["words"].view(torch.int64)
        words.copy_(data[: len(words)])
        start = len(words)
        for value in (self.course[name] for name in self.course):
            value.copy_(data[start : start + value.numel()].view(value.shape))
            start += value.numel()

    def _drop_training_state(self) -> None:
        self.course = Constants()
        if not self._adopted:  # pointers of its own; those of a group are the group's
            self.pointers.put("words", self.pointers["words"].clone())

    def _weights(self) -> list[Entry]:
        course = [Entry(f"course: {name}", self.course.nbytes(name)) for name in self.course]
        return [*self._serving(), *course]

    def _serving(self) -> list[Entry]:
        return [*super()._weights(), Entry("pointers", self.pointers.nbytes("words"))]

    @classmethod
    def for_budget(
        cls, n: int, dim: int, size: int, *, k: int | None = None, parts: int | None = None, **others: Any
    ) -> dict[str, int]:
        """The most centres, a power of two, with which pointers take at most half of the bytes, and of the hashed rows
        the most that then fit; other knobs take no bytes.
        """
        parts = _parts(dim, parts)
        constants, row = 8 * (5 * parts + 1), 4 * dim

        def beside(centres: int) -> int:
            """Bytes of all but the hashed rows."""
            return constants + packed_bytes(n * parts, pointer_bits(centres)) + row * centres

        if k is None:
            k = 1
            while (
                2 * k <= n
                and packed_bytes(n * parts, pointer_bits(2 * k)) <= _POINTER_SHARE * size
                and beside(2 * k) + 2 * k * row <= size
            ):
                k *= 2
        hashed = min(n, (size - beside(k)) // row)
        if hashed < 1:
            raise BudgetError(f"cce cannot hold {n} rows of width {dim} in {size} bytes", beside(k) + row)
        return {"k": k, "hashed": hashed}

    # --- from a trained table -----------------------------------------------------------------------------------------

    @classmethod
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """A table near a trained one, and its relative error: pointers by one clustering, rows then by least squares.

        Keywords are the constructor's, or `budget` or `ratio` instead of hashed; see `least_squares.from_linear`.
        Beside what that takes, four passes over the rows.
        """
        dense = DenseRows(weight)
        table = cls(*dense.shape, **options_like(dense, cls, sized(dense, cls, knobs)))
        wide = torch.float64 if dense.dtype == torch.float64 else torch.float32
        total = 0.0
        for _, part in dense.chunks():
            total += float(part.double().square().sum())
        finite(total)

        def rows(start: int, stop: int) -> Tensor:
            return dense[slice(start, stop)].to("cpu", wide)

        with torch.no_grad():
            coefficients = table.constants["coefficients"].clone()
            table._put(coefficients, *table._made(rows, coefficients, table._generator()))
        return table, fit([table], [dense], nonnegative=True)[0]


def draw_anew(coefficients: Tensor, generator: Generator) -> Tensor:
    """Hashes of the same number, by other coefficients."""
    return torch.randint(1, ROBE_PRIME, coefficients.shape, generator=generator, device="cpu")


def _parts(dim: int, parts: int | None) -> int:
    """Chunks, as asked for or by default."""
    parts = (1 if dim % 2 else 2) if parts is None else parts
    part_width(dim, parts, "concat")
    return parts
