"""`Member`: a table's side of the group that answers for it and owns what it learns in."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

from torch import Tensor, nn
from typing_extensions import Self

from embpress.compressors.group import TableGroup
from embpress.compressors.integers import Constants, Integers


class Member(nn.Module):
    """A table that a group may own: parameters are looked up there when they are asked for, never kept.

    Class attributes:
        stacked: parameters whose rows a group stacks over all its tables.
        group: the `TableGroup` that answers for all tables of the method; None for the plain one.
    """

    stacked: ClassVar[tuple[str, ...]] = ()
    group: ClassVar[type[TableGroup] | None] = None
    num_embeddings: int
    embedding_dim: int
    integers: Integers
    constants: Constants
    # what a group owns: name → this table's part of it, rows; None where all of it is meant
    _adopted: dict[str, slice | None]

    def _learns_in(self, name: str) -> bool:
        """Whether what a group owns by this name is a parameter, or a tensor in its place (torch.func)."""
        owner: nn.Module = self.__dict__["_group"]
        return owner._parameters.get(name) is not None

    @property
    def alone(self) -> TableGroup:
        """The group of this one table, by which it answers when it is not asked through another."""
        group: TableGroup | None = self.__dict__.get("_alone")
        if group is None or group.first is not self:  # a copy makes its own
            tables: Any = [self]
            group = (self.group or TableGroup)(tables, ["the table"], alone=True)
            self.__dict__["_alone"] = group  # not through nn.Module, to which it would be a child
        return group

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_alone"}

    def __getattr__(self, name: str) -> Any:
        """Constants, and this table's part of what a group owns."""
        if name in self.__dict__.get("_adopted", ()):
            return self.own(name)
        constants = self.__dict__.get("constants")
        if constants is not None and name in constants:
            return constants[name]
        if name == "weight" and name not in self._parameters:  # libraries take it for the table wherever there is one
            raise AttributeError(
                f"{type(self).__name__} holds no table weight: lookup(ids) gives rows, to_dense() writes all "
                f"{self.num_embeddings} × {self.embedding_dim} out, linear(table, x) multiplies by them"
            )
        return super().__getattr__(name)

    def whole(self, name: str) -> Tensor:
        """Parameter `name` as the optimizer has it: with the rows of all tables where a group stacked them."""
        owner: nn.Module = self.__dict__["_group"] if name in self._adopted else self
        for tensors in (owner._parameters, owner._buffers):  # a module's own access takes longer than a small batch
            if (tensor := tensors.get(name)) is not None:
                return tensor
        whole: Tensor = getattr(owner, name)  # what stands for it, such as a parametrization
        return whole

    def array(self, name: str) -> Tensor:
        """What `arrays` names, whole, in its own shape."""
        array: Tensor = operator.attrgetter(name)(self) if "." in name else self.whole(name)
        return array

    def replace_array(self, name: str, parameter: nn.Parameter) -> None:
        """Lets go of what `arrays` names, of a folded table that is in no group, for `parameter`."""
        path, _, own = name.rpartition(".")
        self.get_submodule(path)._parameters[own] = parameter

    def row_offset_in(self, name: str) -> int:
        """Where this table's rows start in parameter `name`: 0 unless a group stacked its tables."""
        part = self._adopted.get(name)
        return part.start if isinstance(part, slice) else 0

    def own(self, name: str) -> Tensor:
        """This table's part of parameter or buffer `name`, a view."""
        tensor, part = self.whole(name), self._adopted.get(name)
        return tensor if part is None else tensor[part]

    def adopt(self, group: nn.Module, name: str, part: slice | None) -> None:
        """Lets `group` own parameter or buffer `name`, of which `part` (None: all of it) is this table's."""
        for tensors in (self._parameters, self._buffers):
            tensors.pop(name, None)
        self.__dict__["_group"] = group  # not through nn.Module, to which it would be a child
        self._adopted[name] = part
        if name in self.stacked[:1]:
            self.integers["row_offsets"] = [self.row_offset_in(name)]

    def _disown(self) -> Self:
        """Makes this table stand alone again, on the same memory."""
        tensors = {name: (self.own(name), self.whole(name)) for name in self._adopted}
        self._adopted = {}
        self.__dict__.pop("_group", None)
        if self.stacked:
            self.integers["row_offsets"] = [0]
        for name, (own, whole) in tensors.items():
            if isinstance(whole, nn.Parameter):
                self.register_parameter(name, nn.Parameter(own.detach(), requires_grad=whole.requires_grad))
            else:
                self.register_buffer(name, own)
        return self
