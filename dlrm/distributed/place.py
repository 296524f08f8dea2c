"""Which of several processes this one is, as torchrun tells each that it starts. It is imported without torch."""

from __future__ import annotations

import os
from typing import NamedTuple


class Place(NamedTuple):
    """A process among those that train one model.

    Attributes:
        rank: its number, from 0.
        world: how many there are, on all machines together.
        local_rank, local_world: the same on its machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def here(cls) -> Place:
        """From torchrun's variables; alone where it did not start this process."""
        if "MASTER_ADDR" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        values = [os.environ.get(name, "") for name in names]
        if not all(value.isdecimal() for value in values):
            return cls()
        return cls(*map(int, values))


def share(count: int, rank: int, world: int) -> tuple[int, int]:
    """Which of `count` rows, from first to behind the last, a rank takes: shares differ by one row at most."""
    return count * rank // world, count * (rank + 1) // world
