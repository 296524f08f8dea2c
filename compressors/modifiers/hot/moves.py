"""Rows of a parameter that come to mean something else while graphs wait for their backward."""

from __future__ import annotations

import torch
from torch import Tensor


class Moves:
    """A state of a parameter's rows; it holds no tensor until rows move, and whoever holds it learns which did."""

    def __init__(self) -> None:
        self._moved: Tensor | None = None
        self._next: Moves | None = None

    def move(self, rows: Tensor) -> Moves:
        """The state after these rows `(E,)` have moved."""
        self._moved, self._next = rows, Moves()
        return self._next

    def since(self) -> Tensor | None:
        """Rows that have moved since this state, or None."""
        state, moved = self, []
        while state._next is not None and state._moved is not None:
            moved.append(state._moved)
            state = state._next
        return torch.cat(moved) if moved else None


def without_rows(grad: Tensor, rows: Tensor) -> Tensor:
    """A gradient `(n, D)`, dense or sparse, that is zero in these rows `(E,)`."""
    if not grad.is_sparse:
        return grad.index_fill(0, rows, 0)
    index, values = grad._indices(), grad._values()
    keep = ~torch.isin(index[0], rows)
    return torch.sparse_coo_tensor(index[:, keep], values[keep], grad.shape, check_invariants=False)
