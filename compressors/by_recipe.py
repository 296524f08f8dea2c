"""Tables served by recipe: all tables of a group, or of a model, in one call that no Python is run for a table in."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from embpress.kernels import ops, recipes, reference
from embpress.kernels.autograd import is_direct
from embpress.kernels.errors import ArgumentError

if TYPE_CHECKING:
    from embpress.compressors.group import TableGroup

_WHOLE = (Tensor, nn.Parameter)
# what answers lookups in a group, which a recipe stands for
_ANSWERS = ("forward", "answer", "rows", "lookups", "bags", "assemble", "take", "_checked_bags")
# of these, lookups of single ids
_ROWS = ("forward", "answer", "rows")
# and in a table, which its group stands for where it is named in the same class or in a subclass
_TABLE_ANSWERS = ("forward", "lookup", "_lookup", "rows_of", "bags_of")


class NoRecipe(Exception):
    """Tables that no recipe says: they are answered as they always are."""


class Stores(Protocol):
    """Where a group keeps the rows that its tables are put together from."""

    def __call__(self, name: str, t: int) -> tuple[recipes.Store, int]:
        """The store of what table t's `arrays` call `name`, and its first row there. Raises NoRecipe."""


class Arrays:
    """The tensors that a recipe speaks of, by number: parameters where they are, and constants.

    Attributes:
        places: where each of them is found when it is asked for.
        constants: tensors whose numbers the recipe has, and which version of them.
    """

    def __init__(self) -> None:
        self.places: list[tuple[dict[str, Any], str, torch.dtype]] = []
        self.constants: list[tuple[Tensor, int]] = []
        self._numbers: dict[tuple[int, str], int] = {}
        self._kept: dict[int, dict[str, Any]] = {}

    def parameter(self, owner: nn.Module, name: str) -> tuple[int, Tensor]:
        """The number of a module's parameter, and the parameter. Raises NoRecipe for what is none, or not plain."""
        found = owner._parameters.get(name)
        if type(found) not in _WHOLE or found is None or found.device.type != "cpu" or not found.is_contiguous():
            raise NoRecipe
        return self._number(owner._parameters, name, found.dtype), found

    def constant(self, value: Tensor) -> int:
        """The number of a tensor that nobody learns."""
        owner = self._kept.setdefault(id(value), {"": value})  # which keeps it, and with it its id
        return self._number(owner, "", value.dtype)

    def watch(self, values: Tensor) -> list[int]:
        """Numbers that go into the recipe itself: it is written anew when they change."""
        if values.is_inference():  # nobody would see it change
            raise NoRecipe
        whole = values if values._base is None else values._base  # views have its version
        if all(whole is not known for known, _ in self.constants):
            self.constants.append((whole, whole._version))
        return [int(value) for value in values.flatten().tolist()]

    def _number(self, owner: dict[str, Any], name: str, dtype: torch.dtype) -> int:
        key = id(owner), name
        if key not in self._numbers:
            self._numbers[key] = len(self.places)
            self.places.append((owner, name, dtype))
        return self._numbers[key]

    @property
    def current(self) -> bool:
        """Whether nothing watched has changed."""
        return all(value._version == version for value, version in self.constants)

    def tensors(self) -> list[Tensor] | None:
        """The tensors now; None where one of them is no longer what it was: plain memory of its dtype, on the CPU."""
        found: list[Tensor] = []
        for owner, name, dtype in self.places:
            each: Any = owner.get(name)
            if type(each) not in _WHOLE or each.dtype != dtype or each.device.type != "cpu" or not each.is_contiguous():
                return None
            found.append(each)
        return found


class ByRecipe:
    """Tables that are answered by one recipe.

    Args:
        tables: which, as a group and a number there, of one width and one way of pooling.
        columns: of each among those of the ids.

    Raises:
        NoRecipe: one of them has none.
    """

    def __init__(self, tables: Sequence[tuple[TableGroup, int]], columns: Sequence[int]) -> None:
        self._members, self._columns = [(weakref.ref(group), t) for group, t in tables], columns  # groups hold it
        first = tables[0][0].first
        self.dim, self.mode = first.embedding_dim, first.mode
        self._write()

    def _write(self) -> None:
        arrays = Arrays()
        tables: list[recipes.Table] = []
        for (of_group, t), column in zip(self._members, self._columns):
            group = of_group()
            if group is None:
                raise NoRecipe
            table = group.tables[t]
            made, hot = recipe_of(group, t, stores_of(group, arrays), arrays)
            form = table.row_dtype, table.embedding_dim, table.mode  # which one without parameters cannot say
            if form != (torch.float32, self.dim, self.mode) or self.mode not in ("sum", "mean"):
                raise NoRecipe
            padding = -1 if table.padding_idx is None else table.padding_idx
            tables.append(recipes.Table(column, table.num_embeddings, padding, made, hot))
        held = arrays.tensors()
        try:
            for one in tables:  # what the op has limits for is answered without it
                reference.check_recipe_table(one, held or (), self.dim)
        except ArgumentError:
            raise NoRecipe from None
        self.arrays, self.tables = arrays, len(tables)
        self.recipe = torch.tensor(recipes.encoded(tables), dtype=torch.int64, device="cpu")

    def __call__(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor | None:
        """Bags `(B, T, D)` in the order of its tables, as `TableGroup.forward`; None where it cannot say."""
        held = self.held(ids)
        return None if held is None else self.answer(held, ids, offsets, weights)

    def held(self, ids: Tensor) -> list[Tensor] | None:
        """The tensors that these ids are answered from, by the numbers of `arrays`; None where it cannot say."""
        if ids.device.type != "cpu":
            return None
        arrays = self.arrays.tensors() if self.arrays.current else None
        if arrays is None:
            try:
                self._write()
            except NoRecipe:
                return None
            arrays = self.arrays.tensors()
        return arrays

    def answer(
        self, held: Sequence[Tensor], ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Bags `(B, T, D)` made of what is `held`, without a gradient."""
        return ops.recipe_lookup(
            ids,
            offsets,
            weights,
            arrays=held,
            recipe=self.recipe,
            tables=self.tables,
            dim=self.dim,
            mean=self.mode == "mean",
        )


def by_recipe(tables: Sequence[tuple[TableGroup, int]], columns: Sequence[int]) -> ByRecipe | None:
    """How these tables are answered in one call; None where they cannot be, or where the op is not compiled."""
    if not tables or ops.backend("recipe_lookup") != "native":
        return None
    try:
        return ByRecipe(tables, columns)
    except NoRecipe:
        return None


def serving() -> bool:
    """Whether nothing asks how an answer came about: no gradient, no trace, no transform."""
    return not torch.is_grad_enabled() and is_direct()


def learning() -> bool:
    """Whether gradients are wanted by autograd alone, without a trace, a transform or a tangent."""
    return torch.is_grad_enabled() and forward_ad._current_level < 0 and is_direct()


def learns(group: TableGroup) -> bool:
    """Whether a group says the gradients of its float32 rows, and no subclass answers lookups in another way."""
    if not group.learned or "padding" in group.integers or not says(type(group), "gradients", _ROWS):
        return False
    if not says(type(group.first), "group", _TABLE_ANSWERS):
        return False
    return all(group.first.whole(name).dtype == torch.float32 for name in group.learned)


def recipe_of(group: TableGroup, t: int, stores: Stores, arrays: Arrays) -> tuple[recipes.Made, recipes.HotRows | None]:
    """How a group makes the rows of table t from what `stores` says it keeps.

    Raises:
        NoRecipe: it says none, or a subclass answers lookups in another way.
    """
    if not (says(type(group), "recipe", _ANSWERS) and says(type(group.tables[t]), "group", _TABLE_ANSWERS)):
        raise NoRecipe
    return group.recipe(t, stores, arrays)


def stores_of(group: TableGroup, arrays: Arrays) -> Stores:
    """Where a group keeps rows."""
    return lambda name, t: group.store(name, t, arrays)


def says(cls: type, name: str, others: Sequence[str]) -> bool:
    """Whether `name` is defined in the same class as the others or in a subclass: what it says holds for them too."""
    order = cls.__mro__

    def place(method: str) -> int:
        return next((i for i, base in enumerate(order) if method in vars(base)), len(order))

    return all(place(name) <= place(other) for other in others)
