"""Lookups of a training step in one autograd function: by recipe and by the groups' ops, which say their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from embpress.compressors.by_recipe import by_recipe, learns
from embpress.compressors.group import TableGroup, named
from embpress.compressors.tables.joining import gradient_columns
from embpress.kernels import ops
from embpress.kernels.errors import IdOutOfRange


class LearningCall:
    """All tables of a model of which some groups say their gradients; the others are asked beside them.

    Args:
        groups: of the model.
        members: the columns of each group's tables.
        names: what errors call the tables, by column.
    """

    def __init__(self, groups: Sequence[TableGroup], members: Sequence[Sequence[int]], names: Sequence[str]) -> None:
        native = ops.backend("recipe_lookup") == "native"
        learning = [g for g, group in enumerate(groups) if native and learns(group)]
        said = [g for g in learning if by_recipe([(groups[g], t) for t in range(groups[g].count)], members[g])]
        tables = sorted((column, g, t) for g in said for t, column in enumerate(members[g]))
        columns = [column for column, _, _ in tables]
        self._recipe = by_recipe([(groups[g], t) for _, g, t in tables], columns)
        if self._recipe is None:  # they pool in different ways
            said, columns = [], []
        asked = [g for g in learning if g not in said]
        self._others = [g for g in range(len(groups)) if g not in learning]
        self._names = [names[column] for column in columns]

        # what the function takes: arrays of the recipe, parameters of the groups that no recipe says, others' rows
        self._kept = [(groups[g], name) for g in asked for name in groups[g].learned]
        start = 0 if self._recipe is None else len(self._recipe.arrays.places)
        self.learned: list[_Learned] = []
        for g in (*said, *asked):
            if g in said and self._recipe is not None:
                numbers = [groups[g].store(name, 0, self._recipe.arrays)[0].array for name in groups[g].learned]
            else:
                numbers = list(range(start, start := start + len(groups[g].learned)))
            self.learned.append(_Learned(groups[g], members[g], numbers))
        self._asked = self.learned[len(said) :]
        self.other_columns = [_numbers(members[g]) for g in self._others]

        parts = [columns] * bool(columns) + [members[g] for g in (*asked, *self._others)]
        self._whole = len(parts) == 1 and list(parts[0]) == list(range(len(names)))
        self._places = _numbers([column for part in parts for column in part])

    def rows(self, ids: Tensor, ask: Callable[[int], Tensor]) -> Tensor | None:
        """Rows `(B, F, D)` of ids `(B, F)`, where `ask(g)` answers the columns of group g; None: it cannot say."""
        held = [] if self._recipe is None else self._recipe.held(ids)
        if not self.learned or held is None or ids.device.type != "cpu":
            return None
        held += [cast(Tensor, group.first.whole(name)) for group, name in self._kept]
        return cast(Tensor, _Learning.apply(self, len(held), ids, *held, *map(ask, self._others)))

    def answer(self, ids: Tensor, held: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """The rows of what is held, and those that others have answered, without a gradient."""
        parts = [] if self._recipe is None else [self._by_recipe(ids, held)]
        parts += [each.rows(ids) for each in self._asked]
        parts += others
        return parts[0] if self._whole else ops.join_columns(parts, self._places)

    def _by_recipe(self, ids: Tensor, held: Sequence[Tensor]) -> Tensor:
        assert self._recipe is not None
        try:
            return self._recipe.answer(held[: len(self._recipe.arrays.places)], ids)
        except IdOutOfRange as error:
            raise named(error, self._names) from None


class _Learned:
    """A group of tables that says the gradients of its rows.

    Args:
        group: the tables.
        columns: theirs.
        numbers: of its parameters among those that are held.
    """

    def __init__(self, group: TableGroup, columns: Sequence[int], numbers: Sequence[int]) -> None:
        self.group, self.numbers = group, numbers
        self._columns = _numbers(columns)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of its columns of all ids, in range or not."""
        try:
            return self.group.rows(self.group._checked(ops.take_columns(ids, self._columns)))
        except IdOutOfRange as error:
            raise named(error, self.group.names) from None

    def gradients(self, ids: Tensor, grad: Tensor, held: Sequence[Tensor]) -> Sequence[Tensor]:
        """Gradients of its parameters, of all ids and the gradient of all rows."""
        own, of_rows = ops.take_columns(ids, self._columns), gradient_columns(grad, self._columns)
        return self.group.gradients(own, of_rows, [held[n] for n in self.numbers])


class _Learning(torch.autograd.Function):
    """`LearningCall.answer`, with its gradients."""

    @staticmethod
    def forward(ctx: Any, call: LearningCall, count: int, ids: Tensor, *tensors: Tensor) -> Tensor:
        held = tensors[:count]
        read = {n for each in call.learned if each.group.gradients_read for n in each.numbers}
        ctx.save_for_backward(ids, *(each if n in read else None for n, each in enumerate(held)))
        # of the others only the shape is asked: they may change in between, as those of nn.Embedding
        ctx.unread = [None if n in read else each for n, each in enumerate(held)]
        ctx.call, ctx.count = call, count
        return call.answer(ids, held, tensors[count:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        call: LearningCall = ctx.call
        ids, *saved = ctx.saved_tensors
        held = [unread if each is None else each for each, unread in zip(saved, ctx.unread)]
        made: list[Tensor | None] = [None] * ctx.count
        for each in call.learned:
            if any(ctx.needs_input_grad[3 + n] for n in each.numbers):
                for n, own in zip(each.numbers, each.gradients(ids, grad, held)):
                    made[n] = own
        return None, None, None, *made, *(gradient_columns(grad, columns) for columns in call.other_columns)


def _numbers(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64, device="cpu")
