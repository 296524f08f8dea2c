"""The root of all errors, and what ops find wrong with ids and offsets: the one place that puts it into sentences."""

from __future__ import annotations

import re
from collections.abc import Callable


class EmbpressError(Exception):
    """Something that embpress refuses; the message is one sentence."""


class IdOutOfRange(EmbpressError, IndexError):
    """An id that its table does not have.

    Attributes:
        id: the id.
        rows: how many rows the table has.
        table: the table's number in the call, its name, or None where there is but one.
    """

    def __init__(self, id: int, rows: int, table: int | str | None = None) -> None:
        self.id, self.rows, self.table = id, rows, table
        what = "the table" if table is None else f"table {table}" if isinstance(table, int) else table
        super().__init__(f"id {id} is out of range: {what} has {rows} rows, 0 to {rows - 1}")

    def __reduce__(self) -> tuple[type[IdOutOfRange], tuple[int, int, int | str | None]]:
        return type(self), (self.id, self.rows, self.table)

    def of(self, table: str | None) -> IdOutOfRange:
        """The same of a table by its name; None: of the only one."""
        return IdOutOfRange(self.id, self.rows, table)


class OffsetsError(EmbpressError, ValueError):
    """Offsets that make no bags."""


def offsets_start(got: int) -> OffsetsError:
    """The first offset is not 0."""
    return OffsetsError(f"offsets must start at 0, got {got}")


def offsets_end(size: int, got: int) -> OffsetsError:
    """The last offset is not the input's length."""
    return OffsetsError(f"the last offset must be the input's length {size}, got {got}")


def offsets_decrease() -> OffsetsError:
    """An offset is smaller than the one before."""
    return OffsetsError("offsets must not decrease")


# compiled ops can only raise RuntimeError: kernels/common/errors.h writes `embpress:kind field=value …` into it
_MARK = re.compile(r"embpress:(\w+)((?: \w+=-?\d+)*)")
_KINDS: dict[str, Callable[..., Exception]] = {
    "id_out_of_range": IdOutOfRange,
    "offsets_start": offsets_start,
    "offsets_end": offsets_end,
    "offsets_decrease": offsets_decrease,
}


def decoded(error: RuntimeError) -> Exception:
    """The exception that an error of a compiled op stands for; the error itself where it is none of these."""
    marked = _MARK.search(str(error))
    if marked is None or marked[1] not in _KINDS:
        return error
    fields = (field.split("=") for field in marked[2].split())
    return _KINDS[marked[1]](**{name: int(value) for name, value in fields})
