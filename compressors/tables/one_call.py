"""Which tables of a model one call answers when it serves, and which groups are asked beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from embpress.compressors.by_recipe import by_recipe
from embpress.compressors.group import TableGroup, named
from embpress.kernels import ops
from embpress.kernels.errors import IdOutOfRange


class OneCall:
    """All tables of a model that recipes say, in one call.

    Args:
        groups: of the model.
        members: the columns of each group's tables.
        names: what errors call the tables, by column.

    Attributes:
        whole: whether that call answers all tables.
    """

    def __init__(self, groups: Sequence[TableGroup], members: Sequence[Sequence[int]], names: Sequence[str]) -> None:
        said = [
            by_recipe([(group, t) for t in range(group.count)], part) is not None
            for group, part in zip(groups, members)
        ]
        tables = sorted((column, g, t) for g, part in enumerate(members) if said[g] for t, column in enumerate(part))
        columns = [column for column, _, _ in tables]
        self._recipe = by_recipe([(groups[g], t) for _, g, t in tables], columns)
        self._others = [g for g, alone in enumerate(said) if not alone]
        self._names = [names[column] for column in columns]
        self.whole = self._recipe is not None and not self._others
        self._places = torch.tensor(columns + [column for g in self._others for column in members[g]], device="cpu")

    def rows(self, ids: Tensor, ask: Callable[[int], Tensor]) -> Tensor | None:
        """Rows `(B, F, D)` of ids `(B, F)`, where `ask(g)` answers the columns of group g; None: it cannot say."""
        found = self._answer(ids)
        if found is None or self.whole:
            return found
        return ops.join_columns([found, *map(ask, self._others)], self._places)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor | None:
        """Bags of all tables, as a group of them answers, where it is `whole`; None: it cannot say."""
        return self._answer(ids, offsets, weights)

    def _answer(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor | None:
        if self._recipe is None:
            return None
        try:
            return self._recipe(ids, offsets, weights)
        except IdOutOfRange as error:
            raise named(error, self._names) from None
