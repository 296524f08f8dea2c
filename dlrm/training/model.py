"""The click model that settings ask for."""

from __future__ import annotations

from typing import Any

from torch import Generator

from embpress.compressors import TableCollection
from embpress.dlrm.models.base import ClickModel, model_class
from embpress.dlrm.training.order import window_of
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.tuning import protocol_rate


def build(num_dense: int, tables: TableCollection, settings: Settings, seed: int) -> ClickModel:
    """The settings' model around the tables; what it draws depends on the seed alone (and on the tables' width)."""
    cls: Any = model_class(settings.model)
    generator = Generator().manual_seed(seed)
    return cls(num_dense, tables, generator=generator, amp=settings.amp, **settings.options)


def describe(settings: Settings) -> dict[str, Any]:
    """The model's part of a record: its name, its options, and which tables are compressed."""
    return {
        "name": settings.model,
        "preset": settings.preset,
        "width": settings.width,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in settings.options.items()},
        "min_rows": settings.min_rows,
        "largest": settings.largest,
    }


def describe_training(settings: Settings, rows: int = 0) -> dict[str, Any]:
    """The training's part of a record; `rows` are those of the training part."""
    window = window_of(rows, settings.shuffle_window)
    return {
        "optimizer": settings.optimizer,
        "learning_rate": protocol_rate(settings),
        "batch_size": settings.batch_size,
        "epochs": settings.epochs,
        # plain float32 is not named, so that its runs stay those that they were before there was a choice
        **({"amp": "bfloat16"} if settings.amp else {}),
        # nor is a permutation of all rows
        **({} if window is None else {"shuffle_window": window}),
        # nor is one process; of several the sums are rounded otherwise, and times are others
        **({"processes": settings.processes} if settings.processes > 1 else {}),
    }
