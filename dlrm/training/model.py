"""The click model that settings ask for."""

from __future__ import annotations

from typing import Any

from torch import Generator

from embpress.compressors import TableCollection
from embpress.dlrm.models.base import ClickModel, model_class
from embpress.dlrm.training.settings import Settings


def build(num_dense: int, tables: TableCollection, settings: Settings, seed: int) -> ClickModel:
    """The settings' model around the tables; what it draws depends on the seed alone (and on the tables' width)."""
    cls: Any = model_class(settings.model)
    generator = Generator().manual_seed(seed)
    return cls(num_dense, tables, generator=generator, amp=settings.amp, **cls.configuration(settings))


def describe(settings: Settings) -> dict[str, Any]:
    """The model's part of a record: its name, its configuration, and which tables are compressed."""
    return {
        "name": settings.model,
        "preset": settings.preset,
        "width": settings.width,
        **model_class(settings.model).configuration(settings),
        "min_rows": settings.min_rows,
        "largest": settings.largest,
    }
