"""Which methods are on the front of a cost and AUC, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embpress.reports.plotting.pareto import pareto_front
from embpress.reports.stats import Difference, paired
from embpress.reports.summary import Summary


@dataclass(frozen=True)
class Cost:
    """What AUC is paid with: a metric, how the front is called, and by which share costs may differ and be equal."""

    metric: str
    name: str
    axis: str
    tolerance: float


COSTS = (
    Cost("serving_bytes", "Bytes to serve", "Bytes needed to serve (log scale, 1 MB = 10⁶ bytes)", 0.01),
    Cost("training_bytes", "Bytes to train", "Bytes of the tables in training, with optimizer state (log scale)", 0.01),
    Cost(
        "lookup_p50_us_b128",
        "Lookup latency",
        "Median time of one lookup in all tables, batch of 128 (log scale)",
        0.05,
    ),
)


@dataclass(frozen=True)
class Place:
    """A method on or off a front.

    Attributes:
        cost, auc: means.
        on: on the front of the means.
        beaten: by whom, costing no more, beyond chance; such a method is off the front whatever the means say.
        level: cheaper ones that it is not ahead of beyond chance: what it costs more may buy nothing.
    """

    row: Summary
    cost: float
    auc: float
    on: bool
    beaten: tuple[str, ...]
    level: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """`on`, `may be` or `off`."""
        return "on" if self.on else "off" if self.beaten else "may be"


def front(rows: Sequence[Summary], paid: Cost) -> list[Place]:
    """The rows with AUC and the cost, by cost, cheap ones first; rows of one protocol are held against each other."""
    metric = paid.metric
    shown = [row for row in rows if "auc" in row.stats and (row.mean(metric) or 0) > 0]
    points = [(row.stats[metric].mean, row.stats["auc"].mean) for row in shown]
    on = {id(shown[i]) for i in _fronts(shown, points, paid.tolerance)}
    places = []
    for i in sorted(range(len(shown)), key=lambda i: (points[i][0], -points[i][1], i)):
        row, (cost, auc) = shown[i], points[i]
        beaten, level = [], []
        for other, (their_cost, their_auc) in zip(shown, points):
            if other is row or other.protocol != row.protocol or their_cost > cost * (1 + paid.tolerance):
                continue
            gap = paired(other.auc_by_seed, row.auc_by_seed)
            if gap is not None and gap.distinguishable and gap.mean > 0:
                beaten.append(other.label)
            elif id(row) in on and their_cost * (1 + paid.tolerance) < cost and their_auc <= auc and not _ahead(gap):
                level.append(other.label)
        places.append(Place(row, cost, auc, id(row) in on, tuple(beaten), tuple(level)))
    return places


def _ahead(gap: Difference | None) -> bool:
    """Whether the other one is behind beyond chance."""
    return gap is not None and bool(gap.distinguishable) and gap.mean < 0


def _fronts(rows: Sequence[Summary], points: Sequence[tuple[float, float]], tolerance: float) -> list[int]:
    """Positions on the front of their protocol."""
    found = []
    for protocol in dict.fromkeys(row.protocol for row in rows):
        own = [i for i, row in enumerate(rows) if row.protocol == protocol]
        found += [own[k] for k in pareto_front([points[i] for i in own], tolerance)]
    return found
