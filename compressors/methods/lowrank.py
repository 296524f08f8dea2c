"""Low rank: a product W (n, k) P (k, D) with k < D, trained as such, or the nearest to a trained table by its SVD."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from typing_extensions import Self, Unpack

from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.methods.factored import Factored
from embpress.compressors.nearest_product import fill_nearest, right_singular
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.spec import as_bytes, as_ratio
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import DenseRows, aimed_at, only_one, options_like, relative_error


@register("lowrank")
class LowRank(Factored):
    """Row `i` is `table[i] @ projection`; both factors serve, in `4 (n + D) k` bytes.

    Rows start with a full table's variance `1/(3n)`.

    Args:
        k: inner width, at most D; default `max(1, D // 8)`.
    """

    tags: ClassVar[Tags] = Tags(sparse_gradients=True, for_budget=True, from_dense=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("k",)

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, k: int | None = None, **options: Unpack[TableOptions]
    ) -> None:
        num_embeddings, embedding_dim = self.whole_sizes(num_embeddings, embedding_dim)
        k = max(1, embedding_dim // 8) if k is None else k
        if k > embedding_dim:
            raise InputError(f"lowrank: k={k} is above the width {embedding_dim}, which a product cannot use")
        super().__init__(num_embeddings, embedding_dim, k=k, **options)
        self.reset_parameters(options.get("generator"))

    @classmethod
    def for_budget(cls, n: int, dim: int, size: int) -> dict[str, int]:
        """The largest k, at most D, with `4 (n + D) k` bytes within `size`."""
        k = size // (4 * (n + dim))
        if k < 1:
            raise BudgetError(f"lowrank cannot hold {n} rows of width {dim} in {size} bytes", 4 * (n + dim))
        return {"k": min(k, dim)}

    @classmethod
    @torch.no_grad()
    def from_dense(
        cls,
        weight: Any,
        *,
        k: int | None = None,
        tolerance: float | None = None,
        budget: int | None = None,
        ratio: float | None = None,
        **options: Unpack[TableOptions],
    ) -> tuple[Self, float]:
        """The product of width k that is nearest to a trained table (Eckart and Young 1936), and its relative error.

        The table may be larger than memory: it is read in blocks of rows three times, for the Gram matrix `(D, D)`
        whose eigenvectors are the right singular vectors, for the inner table, and for the error. The Gram matrix,
        float64, has half of its digits: singular values below 1e-8 of the largest are not told from zero.

        Args:
            weight: `(n, D)` floating point: a tensor, a NumPy array, `np.load(path, mmap_mode="r")`, or anything with
                `shape` whose slices `weight[a:b]` are arrays.
            k: inner width; default as in the constructor where nothing else is given.
            tolerance: the largest relative Frobenius error, at least 1e-6; the smallest k that keeps it is taken.
            budget: serving bytes.
            ratio: `4 n D` over the serving bytes, instead of a budget.
            **options: those of `TableOptions`; device and dtype are the table's own by default.

        Returns:
            The table, trainable, and `‖lookups - weight‖ / ‖weight‖`, measured.

        Raises:
            InputError: more than one of the four, or a table or a tolerance that does not fit.
            BudgetError: width 1 takes more than the budget.
        """
        table = DenseRows(weight)
        n, dim = table.shape
        given = options_like(table, cls, options)
        device, dtype = given["device"], given["dtype"]
        only_one("lowrank", k=k, tolerance=tolerance, budget=budget, ratio=ratio)
        aim = None if tolerance is None else aimed_at("lowrank", tolerance, dtype, 1e-6)
        if budget is not None or ratio is not None:
            size = as_bytes(budget) if budget is not None else int(4 * n * dim / as_ratio(ratio or 0))
            k = cls.for_budget(n, dim, size * 4 // dtype.itemsize)["k"]
        singular = right_singular(table, device)
        if aim is not None:
            energies = singular[0]
            left_out = energies.sum() - energies.cumsum(0)
            k = min(dim, int((left_out > aim**2 * energies.sum()).sum()) + 1)
        made = cls(n, dim, k=k, **given)
        fill_nearest(made.table, made.projection, table, singular)
        return made, relative_error(made, table)
