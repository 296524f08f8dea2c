"""What a run takes from its model at the epoch that counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from embpress.dlrm.measure.spectrum import spectrum
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.runs.checkpoint import Keeper
from embpress.dlrm.runs.record import TableRecord


class BestEpoch:
    """Spectra of the tables, and the weights where they are kept: see `training.course.Best`.

    Attributes:
        spectra: of each table, see `measure.spectrum`; empty before the first epoch.
    """

    def __init__(self, keeper: Keeper | None = None) -> None:
        self.keeper, self.spectra = keeper, list[tuple[float, ...]]()

    def take(self, model: nn.Module) -> None:
        """See `Best.take`; of a click model."""
        assert isinstance(model, ClickModel)
        self.spectra = [spectrum(table) for table in model.tables.tables]
        if self.keeper is not None:
            self.keeper.take(model)

    def told(self, tables: Sequence[TableRecord]) -> tuple[TableRecord, ...]:
        """Records of the tables with their spectra, where an epoch has come to its end."""
        spectra = self.spectra or [table.spectrum for table in tables]
        return tuple(replace(table, spectrum=values) for table, values in zip(tables, spectra))

    def state(self) -> Any:
        """See `Best.state`."""
        return {"spectra": self.spectra, "weights": None if self.keeper is None else self.keeper.weights}

    def restore(self, state: Any) -> None:
        """See `Best.restore`."""
        self.spectra = state["spectra"]
        if self.keeper is not None:
            self.keeper.weights = state["weights"]
