"""The data and settings of `make demo`, for cases on its tables."""

from __future__ import annotations

from embpress.dlrm.bench.case import Context
from embpress.dlrm.data import ClickData, load
from embpress.dlrm.training.settings import Settings, resolve

RATIO = 16.0  # that the demo asks for all tables
SCALE = 0.003  # of the synthetic data, their default
ROWS = 200_000


def demo_data(context: Context) -> ClickData:
    """Synthetic data as they come, of the size's `samples` at its `scale`."""
    return load(rows=context.size.samples, scale=context.size.scale, seed=0)


def demo_settings(data: ClickData, context: Context) -> Settings:
    """The defaults, at the size's ratio, on the context's device."""
    rows = len(data.train) + len(data.valid) + len(data.test)
    return resolve(rows, ratio=context.size.ratio, device=str(context.device))
