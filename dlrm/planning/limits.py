"""Limits besides the bytes to serve: which a candidate breaks, and the errors of goals that nothing keeps."""

from __future__ import annotations

from collections.abc import Sequence

from embpress.compressors import BudgetError, InputError, parse
from embpress.compressors.errors import reachable_ratio
from embpress.dlrm.measure.latency import measure
from embpress.dlrm.planning.candidate import Candidate, Goal, at_width
from embpress.dlrm.planning.probe import Prober
from embpress.dlrm.sets import specs_of

LOOKUP = "lookup_p50_us_b128"


def broken_limit(candidate: Candidate, goal: Goal, prober: Prober, measured: dict[str, float]) -> str:
    """Which limit a candidate breaks; empty where none. `measured` keeps lookups by the plan's key."""
    if goal.max_training is not None:
        training = prober.ledger(candidate).training_bytes
        if training > goal.max_training:
            return f"{training:,} bytes in training"
    if goal.max_lookup_us is not None and lookup_us(candidate, prober, measured) > goal.max_lookup_us:
        return f"{measured[candidate.plan_key]:.0f} µs a lookup"
    return ""


def lookup_us(candidate: Candidate, prober: Prober, measured: dict[str, float]) -> float:
    """Microseconds of a lookup of a batch of 128 in the folded tables, measured once."""
    key = candidate.plan_key
    if key not in measured:
        measured[key] = measure(None, prober.tables(candidate).fold(), 0, 0.1)[LOOKUP]
    return measured[key]


def unreachable(goal: Goal, refused: Sequence[tuple[str, str]]) -> Exception:
    """The error of a goal that nothing keeps: a limit, or a size with the smallest that is known."""
    if refused:
        name, reason = refused[0]
        return InputError(f"nothing that is tried keeps the limits: {name} takes {reason}")
    smallest = goal.full_bytes
    for spec in map(parse, specs_of("planned")):
        for width in {1, min(goal.width, 4), goal.width}:
            try:
                at_width(goal, spec, width)
            except BudgetError as error:
                smallest = min(smallest, error.smallest)
            except InputError:
                continue
    ratio = reachable_ratio(smallest, goal.full_bytes)
    return BudgetError(f"cannot reach {goal.bytes:,} bytes: smallest reachable {smallest:,} ({ratio}×)", smallest)
