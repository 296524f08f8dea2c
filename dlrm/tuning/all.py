"""`all[:trials=8]`: the rate and the knobs that a method's paper has tuned, one step at a time from the best so far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from typing_extensions import Self

from embpress.dlrm.tuning.base import RATE, Search, Tuning, Values, number, options_of, rounded

# rates by powers of two: steps of a factor of 2 first, then finer ones, and where all of these are done wider ones
_STEP, _FINER = 1.0, (0.5, 0.25, 0.125)
_WIDER = range(2, 61)


class Everything(Tuning):
    """Pattern search: of the best so far it tries the neighbours that nobody has tried yet, in a fixed order.

    First the rate twice and half as large, which climbs on while it gains; then the other values of each knob, after
    which the rate is looked at again; then the rate in finer steps. A method without knobs has its trials for these.
    """

    name = "all"
    form = "all or all:trials=8"

    def __init__(self, trials: int, rate: float) -> None:
        super().__init__(f"all:trials={trials} from {number(rate)}", trials)

    @classmethod
    def of(cls, argument: str, rate: float) -> Self:
        """Eight trials, or as many as are given."""
        return cls(options_of(cls, argument, {"trials": 8})["trials"], rate)

    def search(self, rate: float, knobs: Mapping[str, tuple[Any, ...]]) -> Search:
        """One step at a time from the best so far."""
        best: Values = {RATE: rate}
        best_score = yield best
        tried = [best]
        while len(tried) < self.trials:
            proposed = next((values for values in _neighbours(best, knobs) if values not in tried), None)
            if proposed is None:
                return
            score = yield proposed
            tried.append(proposed)
            if score > best_score:
                best, best_score = proposed, score


def _neighbours(best: Values, knobs: Mapping[str, tuple[Any, ...]]) -> Iterator[Values]:
    yield from _at_rates(best, _STEP)
    for name, values in knobs.items():
        others = {key: value for key, value in best.items() if key != name}
        yield from ({**others, name: value} for value in values)
        yield others
    for exponent in (*_FINER, *_WIDER):
        yield from _at_rates(best, exponent)


def _at_rates(best: Values, exponent: float) -> Iterator[Values]:
    for sign in (1, -1):
        rate = rounded(best[RATE] * 2 ** (sign * exponent))
        if 0 < rate < math.inf:
            yield {**best, RATE: rate}
