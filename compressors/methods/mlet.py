"""MLET: a product W1 (n, k) W2 (k, D), k >= D, in training, one table to serve (Ghaemmaghami et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.by_recipe import Arrays, NoRecipe, Stores
from embpress.compressors.errors import InputError
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.factored import Factored, FactoredGroup
from embpress.compressors.methods.full import Full
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import DenseRows, finite, options_like, relative_error
from embpress.kernels.recipes import Made, Parts


class _MLETGroup(FactoredGroup):
    """The products serve, and are what is kept in few bits."""

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        return take("weight", ids)

    def recipe(self, t: int, stores: Stores, arrays: Arrays) -> tuple[Made, None]:
        rows = self.tables[t].num_embeddings
        try:
            store, first = stores("weight", t)
        except NoRecipe:  # it has not been multiplied out
            return super().recipe(t, stores, arrays)
        return Parts.row(store, rows, first), None

    def take(self, tables: Tensor) -> Take:
        """Rows of the products, which is what is served."""
        lookups = tables

        def taken(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            tables = lookups if tables is None else tables
            if self.count == 1:
                return self.rows(index.unsqueeze(1)).squeeze(1)
            order = tables.argsort(stable=True)
            rows = self.lookups(index[order], tables[order])
            return torch.empty_like(rows).index_copy(0, order, rows)

        return taken


@register("mlet")
class MLET(Factored):
    """Row `i` is `table[i] @ projection`, linear and without bias; `fold()` multiplies it out to one `n × D` table.

    It saves nothing at a fixed width: what it gives is a smaller width at equal quality, so under a ratio r the whole
    model is trained at width `⌊D / r⌋`, as in the paper.

    Args:
        k: inner width, at least D; default `max(64, 4 D)` (the paper finds k / D > 4 best).
        init: `paper` (projection entries of variance 1/16, so that rows start with `k/16` times a full table's
            variance) or `matched` (variance `1/k`: rows start with a full table's variance).
        force: allow `k < D`, which the paper rules out: the product then has rank k and cannot represent every table.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, saves_by_width=True, from_dense=True)
    training_knobs: ClassVar[tuple[str, ...]] = ("init", "force")
    group = _MLETGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        k: int | None = None,
        init: str = "paper",
        force: bool = False,
        **options: Unpack[TableOptions],
    ) -> None:
        num_embeddings, embedding_dim = self.whole_sizes(num_embeddings, embedding_dim)
        k = max(64, 4 * embedding_dim) if k is None else k
        if k < embedding_dim and not force:
            raise InputError(
                f"mlet: k={k} is below the width {embedding_dim}; the product would have rank {k} only, a restriction "
                "instead of the paper's over-parameterisation (force=true allows it)"
            )
        if init not in ("paper", "matched"):
            raise InputError(f"mlet: init={init!r} is not one of paper, matched")
        super().__init__(num_embeddings, embedding_dim, k=k, **options)
        self.init, self.force = init, force
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`table` as a full table, `projection` from N(0, 1/16) or N(0, 1/k)."""
        self._draw(0.25 if self.init == "paper" else 1 / math.sqrt(self.k), generator)

    @classmethod
    def tuned_knobs(cls, embedding_dim: int, **fixed: Any) -> Mapping[str, tuple[Any, ...]]:
        """The inner width, in the multiples of the width that the paper has (its section 4 and Figures 2 and 3)."""
        own = max(64, 4 * embedding_dim)
        return {"k": tuple(k for m in (8, 4, 2, 1) if (k := m * embedding_dim) != own)}

    @classmethod
    @torch.no_grad()
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """A product `W1 P` equal to a trained table W up to rounding, so that it can be trained further.

        P is the projection drawn, `W1 = W P⁺` by its pseudoinverse. With `k < D` that is the nearest for this P.

        Args:
            weight: `(n, D)`, see `DenseRows`; it may be larger than memory, the inner table is k / D times as large.
            **knobs: the constructor's; device and dtype are the table's own by default.

        Returns:
            The table, and `‖lookups - weight‖ / ‖weight‖`, measured.

        Raises:
            InputError: entries that are not finite.
        """
        dense = DenseRows(weight)
        made = cls(*dense.shape, **options_like(dense, cls, knobs))
        inverse = torch.linalg.pinv(made.projection.double())
        for part, rows in dense.chunks():
            made.table[part] = rows.to(inverse) @ inverse
        return made, finite(relative_error(made, dense))

    def arrays(self) -> tuple[Array, ...]:
        """The product."""
        return (Array("weight", self.num_embeddings, self.embedding_dim, table=True),)

    def fold(self) -> Full:
        """The product as one full table: equal lookups up to rounding."""
        return Full.serving(self, self.own("table").detach() @ self.own("projection").detach())

    def _serving(self) -> list[Entry]:
        size = self.num_embeddings * self.embedding_dim * self.itemsize
        return [Entry("weight", size, itemsize=self.itemsize)]
