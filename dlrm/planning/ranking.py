"""The rows of all tables in the order of their traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from embpress.compressors.tables.planning.proportional import kept_full
from embpress.dlrm.planning.candidate import Goal
from embpress.dlrm.planning.probe import Prober


class Ranking:
    """Rows of all tables that may lose some, in the order of their traffic.

    Attributes:
        keep: for each table, whether it keeps all its rows.
        rows: how many rows the others have together.
    """

    def __init__(self, keep: Sequence[bool], places: dict[int, Tensor], traffic: Tensor) -> None:
        self.keep, self._places, self._traffic, self.rows = keep, places, traffic, len(traffic)

    @classmethod
    def of(cls, goal: Goal, prober: Prober) -> Ranking | None:
        """From the rows trained on; None where ids are not numbered by falling traffic, as `top` needs them.

        Row 0, of what is missing or rare, is the first row of its table whatever its traffic.
        """
        keep = kept_full(goal.configs, goal.settings.min_rows, goal.settings.largest)
        chosen = [t for t, own in enumerate(keep) if not own]
        counts = [prober.counts[t] for t in chosen]
        if not chosen or any(bool((each[2:] > each[1:-1]).any()) for each in counts):
            return None
        traffic = torch.cat([torch.cat([torch.full_like(each[:1], 1 << 62), each[1:]]) for each in counts])
        traffic, order = torch.sort(traffic, descending=True, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        return cls(keep, dict(zip(chosen, place.split([len(each) for each in counts]))), traffic)

    def first(self, rows: int) -> dict[int, int]:
        """How many rows of each table are among so many of the most frequent."""
        return {t: int(torch.searchsorted(place, rows)) for t, place in self._places.items()}

    def busier(self, rows: int, times: float) -> int:
        """How many rows have so many times the traffic of the last of the first `rows`, of which one is the least."""
        least = times * max(1, int(self._traffic[max(rows, 1) - 1]))
        return int(torch.searchsorted(-self._traffic.double(), torch.tensor(-least, dtype=torch.float64), right=True))


def most_that_fit(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits; 0 does."""
    few = 0
    while few < most:
        middle = (few + most + 1) // 2
        if fits(middle):
            few = middle
        else:
            most = middle - 1
    return few
