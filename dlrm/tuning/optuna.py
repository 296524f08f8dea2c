"""`optuna[:trials=20[:seed=0]]`: the rate and the same knobs by Optuna's tree-structured Parzen estimator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from typing_extensions import Self

from embpress.compressors.errors import require
from embpress.dlrm.tuning.base import RATE, Search, Tuning, Values, number, options_of, rounded

_RANGE = 16.0  # rates up to so many times the settings' own, and down to its part


class Optuna(Tuning):
    """For spaces that are too large to go through (Akiba et al. 2019); its sampler is seeded, so it can be repeated.

    The settings' own values are the first trial. Rates are drawn between a sixteenth and sixteen times the settings'.
    """

    name = "optuna"
    form = "optuna or optuna:trials=20 or optuna:trials=20:seed=1"

    def __init__(self, trials: int, seed: int, rate: float) -> None:
        self.seed = seed
        super().__init__(f"optuna:trials={trials}:seed={seed} from {number(rate)}", trials)

    @classmethod
    def of(cls, argument: str, rate: float) -> Self:
        """Twenty trials, or as many as are given; InputError where optuna is not installed."""
        values = options_of(cls, argument, {"trials": 20, "seed": 0})
        require("optuna", "tune optuna")
        return cls(values["trials"], values["seed"], rate)

    def search(self, rate: float, knobs: Mapping[str, tuple[Any, ...]]) -> Search:
        """What the sampler asks for; a trial without a score is the worst that there is."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=self.seed))
        study.enqueue_trial({RATE: rate, **dict.fromkeys(knobs)})
        for _ in range(self.trials):
            trial = study.ask()
            asked = trial.suggest_float(RATE, rate / _RANGE, rate * _RANGE, log=True)
            picked = {name: trial.suggest_categorical(name, [None, *values]) for name, values in knobs.items()}
            values: Values = {RATE: rate if asked == rate else rounded(asked)}
            values |= {name: value for name, value in picked.items() if value is not None}
            score = yield values
            study.tell(trial, score if math.isfinite(score) else 0.0)
