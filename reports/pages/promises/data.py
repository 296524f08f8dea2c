"""Plans among the runs whose files say what was expected of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from embpress.compressors import InputError, Plan, parse
from embpress.compressors.spec import PlanFile
from embpress.reports.summary import Summary


@dataclass(frozen=True)
class Kept:
    """A plan's promise and its runs.

    Attributes:
        promise: bytes, AUC with its bounds and times, as `embpress plan` saved them.
        inside: runs whose AUC lies within the bounds.
    """

    row: Summary
    promise: Mapping[str, Any]
    inside: int

    @property
    def mean_inside(self) -> bool:
        """Whether the mean AUC over the seeds lies within the bounds."""
        auc = self.row.mean("auc")
        return bool(self.promise["low"] <= auc <= self.promise["high"])


def kept_of(rows: Sequence[Summary]) -> list[Kept]:
    """The plans that promise the AUC of a whole training with bounds, whose files are as they were when they ran."""
    found = []
    for row in rows:
        promise = _promise(row)
        if promise is None or not row.auc_by_seed:
            continue
        inside = sum(promise["low"] <= auc <= promise["high"] for auc in row.auc_by_seed.values())
        found.append(Kept(row, promise, inside))
    return found


def _promise(row: Summary) -> Mapping[str, Any] | None:
    if row.plan is None:
        return None
    with suppress(InputError, OSError):
        spec = parse(row.method)
        if isinstance(spec, PlanFile) and spec.content == row.plan:
            promise = Plan.read(spec.path).about.get("promise")
            if isinstance(promise, dict) and None not in (promise.get("low"), promise.get("high")):
                return None if promise.get("short") else promise
    return None
