"""Bytes of the tables, full or compressed: those of the real ones, made on torch's `meta` device."""

from __future__ import annotations

from functools import cached_property

from embpress.compressors import MethodSpec, TableCollection
from embpress.compressors.ledger import Ledger
from embpress.dlrm.scale.workload import Workload


class Tables:
    """All tables of a model by one method; no value of them is ever made.

    Args:
        spec: the method.
        work: the model and its step.
        ratio, budget, min_rows: as of `TableCollection.build`.
        shared: gradients are summed over devices, and so dense; else those of full tables are sparse.

    Raises:
        BudgetError: the size cannot be reached.
    """

    def __init__(
        self,
        spec: MethodSpec,
        work: Workload,
        *,
        ratio: float | None = None,
        budget: int | None = None,
        min_rows: int = 200,
        shared: bool,
    ) -> None:
        self.name, self._work = str(spec), work
        self._made = TableCollection.build(
            work.configs, spec, ratio=ratio, budget=budget, min_rows=min_rows, sparse=not shared, device="meta"
        )

    @property
    def dim(self) -> int:
        """Width of the rows that come out; smaller than the model's where the method saves by width."""
        return self._made.embedding_dim

    @cached_property
    def serving_bytes(self) -> int:
        """Every byte needed to answer lookups."""
        return self._made.ledger().serving_bytes

    @cached_property
    def gradient_bytes(self) -> int:
        """Bytes of all trained parameters, which their dense gradients have too."""
        return sum(p.numel() * p.element_size() for p in self._made.parameters() if p.requires_grad)

    @cached_property
    def state_bytes(self) -> int:
        """Bytes of the optimizer's state: what the ledger with it has beyond the one without."""
        with_state, without = (self._ledger(name, 1).training_bytes for name in (self._work.optimizer, "none"))
        return with_state - without

    def memory(self, batch: int) -> int:
        """Bytes that a step on so many samples needs; without training, those that serve."""
        return self._ledger(self._work.optimizer, batch).training_bytes if self._work.training else self.serving_bytes

    def _ledger(self, optimizer: str, batch: int) -> Ledger:
        return self._made.ledger(optimizer, batch * self._work.lookups)
