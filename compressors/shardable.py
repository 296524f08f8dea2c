"""`Shardable`: groups of tables that can be divided among the processes of a training, each table on one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import timedelta

from torch import nn

from embpress.compressors.errors import InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.modifiers.base import Modifier


class Shardable(TableGroup, ABC):
    """A group whose tables several processes can hold between them (model parallelism).

    `shard` and `gather` are called on every rank of the process group that is there. In between a forward with
    gradients is given each rank's own part of a batch and answers it, with rows that the other ranks hold too; the
    backward updates each table where it is, by the gradient of all ranks' parts. Everything else needs `gather` first.
    """

    @abstractmethod
    def shard(self, timeout: timedelta | None = None) -> None:
        """Divides the tables among the ranks of the default process group, which hold the same rows before.

        Args:
            timeout: after which a rank that takes no part counts as lost; torch's own by default.
        """

    @abstractmethod
    def gather(self) -> None:
        """Gives every rank all rows and all optimizer state, until the next forward with gradients."""

    @abstractmethod
    def unshard(self) -> None:
        """Ends what `shard` has begun, on this rank alone; what was not gathered before is lost and becomes NaN."""

    @abstractmethod
    def sent_bytes(self, batch: int) -> int:
        """Bytes that this rank sends to others in the last step's forward and backward.

        Args:
            batch: samples of all ranks together.
        """

    @property
    @abstractmethod
    def held(self) -> Sequence[nn.Parameter]:
        """The parameters that are divided: no others may touch them or wait for their gradients."""


def shardable(groups: Iterable[TableGroup]) -> list[Shardable]:
    """Those of some groups that can be divided.

    Raises:
        InputError: tables that could be, were it not for a modifier around them.
    """
    found: list[Shardable] = []
    for group in groups:
        if isinstance(group, Shardable):
            found.append(group)
            continue
        for table in group.tables:
            inner = table
            while isinstance(inner, Modifier):
                inner = inner.table
            if inner is not table and issubclass(inner.group or TableGroup, Shardable):
                inside = "+".join([inner.spec_name, *table.modifiers])
                raise InputError(
                    f"{inner.spec_name} divides plain tables among processes and cannot train inside {inside}: give it "
                    "no modifier, or use full"
                )
    return found
