"""`Tags`: what a method can do besides what all of them can."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tags:
    """What a method declares; everything else asks here, never for a method's name.

    Attributes:
        sparse_gradients: takes `sparse=True`.
        shared_memory: the tables of a model hold one memory together.
        fused_update: updates itself in the backward; there is no `.grad`.
        saves_by_width: a ratio makes the whole model narrower, to the width `⌊D / r⌋`.
        for_budget: has `for_budget(n, dim, bytes, **fixed)`, keywords by arithmetic alone.
        splits_budget: has `split_budget(shapes, bytes, **fixed)`, the keywords of each of several tables for their
            bytes in all; a planner asks it instead of dividing the bytes itself.
        from_dense: has `from_dense(weight, **knobs)` → (table, relative error).
        uncompressed: holds every row as it is.
        baseline: what people have without compressing anything, such as full tables: what a method has to beat.
        maintain: has `maintain(step)` → rows of parameters that hold something else now.
        straight_through: gradients pass a rounding as if it were not there: no difference of outputs shows them.
        dtypes: the only dtypes of the parameters; empty for every floating point type.
    """

    sparse_gradients: bool = False
    shared_memory: bool = False
    fused_update: bool = False
    saves_by_width: bool = False
    for_budget: bool = False
    splits_budget: bool = False
    from_dense: bool = False
    maintain: bool = False
    straight_through: bool = False
    uncompressed: bool = False
    baseline: bool = False
    dtypes: tuple[torch.dtype, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether tables are what `nn.EmbeddingBag` is: every row as it is, updated by an optimizer; the baseline."""
        return self.uncompressed and not self.fused_update

    def has(self, dtype: torch.dtype) -> bool:
        """Whether parameters may be of this dtype."""
        return not self.dtypes or dtype in self.dtypes
