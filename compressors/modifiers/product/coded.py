"""What `+pq` serves: rows put together from the centres that their codes name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.modifiers.in_codes import InCodes, InCodesGroup
from embpress.compressors.modifiers.product.codebooks import Product
from embpress.compressors.modifiers.quantized.codes import unpack


class CodedGroup(InCodesGroup):
    """Reads codes, and takes the rows of the codebooks that they name."""

    tables: Sequence[Coded]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        if self.count > 1:
            for k, product in enumerate(self.first.products):
                self.integers[f"{product.name} centres"] = [table.products[k].centres for table in self.tables]

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        """As the group inside, from rows of its arrays which are made of rows of codebooks."""
        products, lookups = {product.name: product for product in self.first.products}, tables

        def rows(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            tables = lookups if tables is None else tables
            product = products[name]
            centres: int | Tensor = product.centres
            if self.count > 1:
                index = index + self.of_each(product.codes_name, tables, index)
                centres = self.of_each(f"{name} centres", tables, index).unsqueeze(-1)
            codes = unpack(self.kept(product.codes_name)[index], product.bits, product.parts).long()
            pieces = []
            for books in product.books:
                part = torch.arange(books.count, device=index.device)
                own = codes[..., books.first : books.first + books.count] + part * centres
                pieces.append(take(books.name, own, part, tables=tables).flatten(-2))
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)

        return self.inner.assemble(ids, tables, rows)

    def take(self, tables: Tensor) -> Take:
        """Rows of codebooks."""
        lookups = tables

        def taken(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            tables = lookups if tables is None else tables
            index = index + self.of_each(name, tables, index) if self.count > 1 else index
            return nn.functional.embedding(index, self.kept(name))

        return taken


class Coded(InCodes):
    """A folded table of whose arrays each row is a few codes.

    Args:
        table: the folded table, whose arrays are let go of.
        products: how the rows of each array are kept.
        parameters: codes and codebooks, by name.
        name: of the modifier.
        own: the modifier's knobs.
    """

    group = CodedGroup
    array = Compressor.array
    replace_array = Compressor.replace_array

    def __init__(
        self,
        table: Compressor,
        products: Sequence[Product],
        parameters: Mapping[str, nn.Parameter],
        name: str,
        own: Mapping[str, Any],
    ) -> None:
        super().__init__(table, parameters, name, own)
        self.products = tuple(products)

    @property
    def stacked(self) -> tuple[str, ...]:  # type: ignore[override]
        """Codes and codebooks."""
        return self.kept

    def _forms(self) -> tuple[Any, ...]:
        return tuple(product.form for product in self.products)

    def group_key(self) -> tuple[Any, ...]:
        """Rows cut into the same parts, put together alike."""
        return *super().group_key(), self._forms()

    def assembly_key(self) -> tuple[Any, ...]:
        """The same, and that of the table inside."""
        return *self.table.assembly_key(), self._forms()

    def arrays(self) -> tuple[Array, ...]:
        """The codebooks."""
        return tuple(books.array for product in self.products for books in product.books)

    def fold(self) -> Compressor:
        """The same once more, on the same memory."""
        parameters = {name: nn.Parameter(self.own(name), requires_grad=False) for name in self.kept}
        return Coded(self.table.fold(), self.products, parameters, self.modifier_name, self._knobs)

    def _owner(self, name: str) -> int | None:
        return None
