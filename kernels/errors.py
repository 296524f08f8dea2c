"""The root of all errors, and what ops find wrong with their arguments: the one place that puts it into sentences."""

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


class ArgumentError(EmbpressError, ValueError):
    """An argument of an op that does not fit the others, by its name."""


class DtypeError(EmbpressError, TypeError):
    """An argument of an op that is of another type than it takes, by its name."""


class NotDifferentiable(EmbpressError, NotImplementedError):
    """A derivative that an op does not have: the second one, or forward mode."""


def corrupt_cache(table: int = -1) -> ArgumentError:
    """The index of a cache is not one of its ids."""
    which = "a cache" if table < 0 else f"the cache of table {table}"
    return ArgumentError(f"the index of {which} does not belong to its ids: was it loaded, or filled, at all?")


def corrupt_counts(used: int, slots: int) -> ArgumentError:
    """A table of counts that has no free slot, or says that more are taken than it has."""
    return ArgumentError(
        f"the table of counts, {used} of {slots} slots taken as it says, holds something else: was it loaded at all?"
    )


# compiled ops can only raise RuntimeError: kernels/common/errors.h writes `embpress: kind (field=value …)` into it
_MARK = re.compile(r"embpress: ([a-z ]+) \(((?:\w+=-?\d+ ?)*)\)")
_KINDS: dict[str, Callable[..., Exception]] = {
    "id out of range": IdOutOfRange,
    "offsets start wrong": offsets_start,
    "offsets end wrong": offsets_end,
    "offsets decrease": offsets_decrease,
    "corrupt cache": corrupt_cache,
    "corrupt counts": corrupt_counts,
}
# what else a compiled op refuses: the place in C++, the op's name, the sentence
_PLACE = re.compile(r"\w+, \S*kernels/(?:common|cpu|cuda)/\S+:\d+, (?!embpress: )(?:\w+: )?(.*)", re.DOTALL)


def decoded(error: Exception) -> Exception:
    """The exception that an error of a compiled op stands for; the error itself where it is none of these."""
    marked = _MARK.search(str(error))
    if marked is not None and marked[1] in _KINDS:
        fields = (field.split("=") for field in marked[2].split())
        return _KINDS[marked[1]](**{name: int(value) for name, value in fields})
    refused = _PLACE.match(str(error))
    return error if refused is None else ArgumentError(refused[1])


def said_by(error: BaseException) -> str:
    """The first line of what an exception says, or its name where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
