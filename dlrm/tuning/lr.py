"""`lr[:RATE,…]`: a grid of learning rates, by default the setting's own times 1/4, 1/2, 1, 2 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import Self

from embpress.dlrm.tuning.base import MAX_TRIALS, RATE, Search, Tuning, learning_rate, number

_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


class Rates(Tuning):
    """The same grid for every method. The settings' own rate is always among it, to say what it would have given."""

    name = "lr"
    form = "lr or lr:0.005,0.01,0.02"
    tunes_knobs = False

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates = sorted(set(rates))
        super().__init__(f"lr:{','.join(map(number, self.rates))}", len(self.rates))

    @classmethod
    def of(cls, argument: str, rate: float) -> Self:
        """The grid that is given, or the one around the settings' rate.

        Raises:
            InputError: what is no positive number, or more than a hundred.
        """
        from embpress.compressors.errors import InputError

        if not argument:
            return cls([rate * factor for factor in _FACTORS])
        grid = cls([rate, *(learning_rate(part.strip(), cls) for part in argument.split(","))])
        if grid.trials > MAX_TRIALS:
            raise InputError(f"tune lr: a grid has at most {MAX_TRIALS} rates, got {grid.trials}")
        return grid

    def search(self, rate: float, knobs: Mapping[str, tuple[Any, ...]]) -> Search:
        """The settings' rate, then the others by size, whatever they give."""
        for each in [rate, *(each for each in self.rates if each != rate)]:
            yield {RATE: each}
