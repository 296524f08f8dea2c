"""One expression for all tables: at the model's own width, and in narrower models that have more room for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from embpress.compressors import BudgetError, InputError, MethodSpec, parse
from embpress.dlrm.planning.candidate import Candidate, Goal, at_width, widest
from embpress.dlrm.planning.probe import Prober
from embpress.dlrm.sets import specs_of

# widths are halved down to it: a vector of fewer numbers says too little to be worth a probe of its own
_NARROWEST = 4


def propose(goal: Goal, prober: Prober, best: Sequence[Candidate], on: Callable[[], bool]) -> Iterator[Candidate]:
    """Every method of the set `planned`; one that takes all rows at the largest width that fits."""
    if best:
        return
    specs = [parse(text) for text in specs_of("planned")]
    widths = [_halved(goal.width) if _sizable(spec) else [widest(goal, spec)] for spec in specs]
    for turn in range(max(map(len, widths))):  # each once before any at a smaller width
        for spec, own in zip(specs, widths):
            width = own[turn] if turn < len(own) else None
            if width is None:
                continue
            try:
                plan = at_width(goal, spec, width)
            except (BudgetError, InputError):
                continue
            narrower = width < goal.width
            name = f"{spec} at width {width}" if narrower else str(spec)
            yield Candidate(name, plan, single=_single(spec, narrower), expression=str(spec))


def _sizable(spec: MethodSpec) -> bool:
    return spec.sizable and not spec.tags.saves_by_width


def _halved(width: int) -> list[int | None]:
    widths: list[int | None] = [width]
    while (width := width // 2) >= _NARROWEST:
        widths.append(width)
    return widths


def _single(spec: MethodSpec, narrower: bool) -> str | None:
    """The expression that `compare` would run so."""
    if spec.tags.saves_by_width:
        return str(spec)
    if not narrower:
        return str(spec)
    return str(spec).replace("full", "narrow", 1) if spec.name == "full" else None
