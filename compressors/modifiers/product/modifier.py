"""`+pq:parts=m`: served by product quantisation, a row as m codes into m codebooks (Jégou, Douze, Schmid 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.full import Full
from embpress.compressors.modifiers.base import Modifier, ModifierGroup
from embpress.compressors.modifiers.product.codebooks import Product
from embpress.compressors.modifiers.product.coded import Coded
from embpress.compressors.registry import register_modifier

BITS = (1, 2, 4, 8)
_ROWS = "weight"  # the array of a table that is written out


class _ProductGroup(ModifierGroup):
    """Each table becomes codes; they are put together again."""

    tables: Sequence[ProductQuantized]

    def take(self, tables: Tensor) -> Take:
        """As the group inside, of what it trains."""
        inner, made = self.inner.take(tables), {array.name for array in self.first.arrays()}

        def taken(name: str, index: Tensor, segment: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
            if name in made:
                raise InputError(f"pq: codebooks are made when the table is folded, so nothing trains through {name}")
            return inner(name, index, segment, tables=tables)

        return taken

    def fold(self) -> TableGroup | list[Compressor]:
        """A table each."""
        return [table.fold() for table in self.tables]


@register_modifier("pq")
class ProductQuantized(Modifier):
    """`fold()` cuts rows into `parts` parts and keeps of each part the number of the nearest of `2^bits` centres.

    The centres are found by k-means over the rows as they are trained, without weights. What becomes codes are the
    rows of the method's own tables where it consists of such (`full`, `hash`, `qr`, `mlet`), each of them with one set
    of codebooks: a second set for a second part table costs as much as 256 of its rows. Of a method that computes its
    rows otherwise (`robe`, `tt`), or whose memory several tables share, all rows are written out and become codes: its
    size is then that of `full+pq`, and its knobs make no difference to it.

    A row takes `parts · bits / 8` bytes, codebooks `2^bits · D` numbers (no more centres than rows): it pays for tables
    of more than a few thousand rows.

    Args:
        table: what it wraps.
        parts: of a row, at most one an element. Where they do not divide the width, the first are an element wider.
        bits: of a code, 1, 2, 4 or 8.
    """

    at_fold = True
    served_error: ClassVar[float] = 1.5
    group = _ProductGroup

    def __init__(self, table: Compressor, *, parts: int = 4, bits: int = 8) -> None:
        super().__init__(table)
        if parts < 1:
            raise InputError(f"pq: parts={parts}, a row has at least one part")
        if bits not in BITS:
            raise InputError(f"pq: bits={bits} is not one of {', '.join(map(str, BITS))}")
        self.parts, self.bits = parts, bits

    def own_knobs(self) -> dict[str, Any]:
        """The parts, and the bits that are not as by default."""
        return {"parts": self.parts} | ({} if self.bits == 8 else {"bits": self.bits})

    def _inner_arrays(self) -> tuple[Array, ...]:
        """The arrays inside that are tables of rows of this one's own; none where rows are to be written out."""
        try:
            arrays = self.table.arrays()
        except InputError:  # it does not say
            return ()
        return arrays if all(array.ranges == "column" and not array.shared for array in arrays) else ()

    def products(self) -> tuple[Product, ...]:
        """How each array is kept."""
        arrays = self._inner_arrays() or (Array(_ROWS, self.num_embeddings, self.embedding_dim),)
        return tuple(
            Product(array.name, array.rows, array.width, min(self.parts, array.width), self.bits) for array in arrays
        )

    def arrays(self) -> tuple[Array, ...]:
        """The codebooks that there will be."""
        return tuple(books.array for product in self.products() for books in product.books)

    def array(self, name: str) -> Tensor:
        """Of the folded table only: InputError before."""
        raise InputError(f"pq: codebooks are made when the table is folded, there is no {name} yet")

    def assembly_key(self) -> tuple[Any, ...]:
        """As what is served."""
        forms = tuple(product.form for product in self.products())
        return (*self.table.assembly_key(), forms) if self._inner_arrays() else (forms,)

    def fold(self) -> Compressor:
        """The table inside, folded and in codes."""
        folded, products = self.table.fold(), self.products()
        made: dict[str, Tensor] = {}
        with torch.inference_mode(False), torch.no_grad():
            if self._inner_arrays():
                for product in products:
                    values = folded.array(product.name).detach()
                    made |= product.encode(values.__getitem__, values.device)
                    folded.replace_array(product.name, _nothing(values))
                inside = folded
            else:
                made = products[0].encode(folded.to_dense, folded.device)
                rows = torch.empty(0, self.embedding_dim, dtype=folded.row_dtype, device=folded.device)
                inside = Full.serving(folded, rows)
        parameters = {name: nn.Parameter(tensor, requires_grad=False) for name, tensor in made.items()}
        return Coded(inside, products, parameters, self.modifier_name, self.own_knobs())

    def _serving(self) -> list[Entry]:
        inner = {entry.name: entry for entry in self.table._serving()} if self._inner_arrays() else {}
        entries = []
        for product in self.products():
            trained = inner.pop(product.name, None)
            itemsize = trained.itemsize if trained else self.table.row_dtype.itemsize
            entries.append(Entry(product.codes_name, torch.Size(product.code_shape).numel()))
            for books in product.books:
                numel = books.array.rows * books.width
                entries.append(Entry(books.name, numel * itemsize, itemsize=itemsize))
        return entries + list(inner.values())


def _nothing(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.new_empty(0, *values.shape[1:]), requires_grad=False)
