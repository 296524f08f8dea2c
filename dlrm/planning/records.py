"""Runs that were made already, as the probes that they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embpress.compressors import parse
from embpress.dlrm.data import ClickData
from embpress.dlrm.planning.candidate import Candidate
from embpress.dlrm.runs.record import Run, plain
from embpress.dlrm.runs.store import read, record_paths
from embpress.dlrm.runs.trials import SEED
from embpress.dlrm.training.model import describe, describe_training
from embpress.dlrm.training.settings import Settings

FOLD = 0  # the validation part is held out in it, as in a comparison


class Records:
    """Runs and trials of comparisons on the same data with the same settings but for method, size and learning rate.

    A run of seed 0 trains what a probe of fold 0 trains, and its validation AUC as served is what the probe would give,
    to the bit. What it says of the test part is not looked at.

    Args:
        runs: of any comparisons.
        data, settings: what is planned for.
    """

    def __init__(self, runs: Iterable[Run], data: ClickData, settings: Settings) -> None:
        self._of: dict[tuple[str, int, float], Run] = {}
        model, training = _comparable(describe(settings)), _comparable(describe_training(settings, len(data.train)))
        for run in runs:
            same = _comparable(run.model) == model and _comparable(run.training) == training
            if run.ok and run.seed == SEED and run.data.fingerprint == data.fingerprint and same:
                rate, size = run.training["learning_rate"], run.metrics.get("serving_bytes")
                if isinstance(rate, (int, float)) and size is not None:
                    self._of[run.method, int(size), float(rate)] = run

    @classmethod
    def read(cls, folders: Iterable[Path], data: ClickData, settings: Settings) -> Records:
        """Those of run folders, their trials too; a folder that holds none gives none.

        Raises:
            InputError: a record is damaged.
        """
        places = [place for folder in folders for place in (folder, folder / "trials")]
        return cls([read(path) for place in places for path in record_paths(place)], data, settings)

    def __len__(self) -> int:
        return len(self._of)

    def scores(self, candidate: Candidate, rate: float) -> dict[str, Any] | None:
        """`auc` and `step_ms` of a candidate that is one expression at the model's width; None where none is known."""
        if candidate.single is None:
            return None
        run = self._of.get((str(parse(candidate.single)), candidate.bytes, rate))
        if run is None:
            return None
        metrics = run.metrics
        auc = metrics.get("valid_auc_served", None if "auc_trained" in metrics else metrics.get("valid_auc"))
        return None if auc is None else {"auc": auc, "step_ms": metrics.get("step_ms")}


def _comparable(described: dict[str, Any]) -> Any:
    """A description as a record holds it, without the learning rate."""
    return plain({name: value for name, value in described.items() if name != "learning_rate"})
