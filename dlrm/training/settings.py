"""How a run is set up: model, training, size; the defaults that depend on the data."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from embpress.compressors import InputError
from embpress.compressors.errors import nearest
from embpress.compressors.guard import INT64_MAX, whole
from embpress.dlrm.measure.device import resolve_device
from embpress.dlrm.models.base import model_class
from embpress.dlrm.training.presets import PRESETS

# below this many rows small batches train better and the steps are cheap
LARGE = 1_000_000
OPTIMIZERS = ("sgd", "adagrad", "rowwise_adagrad")
# what a whole number may be; a batch of 0 is the default one
RANGES = {
    "width": (1, 65_536),
    "epochs": (1, 1_000_000),
    "batch_size": (0, 1 << 24),
    "min_rows": (0, INT64_MAX),
    "largest": (1, INT64_MAX),
}
SEEDS = 1_000  # of one comparison


@dataclass(frozen=True)
class Settings:
    """Everything about a run but the data, the method and the seed.

    Attributes:
        model: the click model, a file of `dlrm/models`.
        preset: where the other values came from, a name of `PRESETS`.
        width: width D of the tables.
        bottom, top: hidden widths of the MLPs before and after the interaction.
        optimizer: one of `OPTIMIZERS`, for tables and MLPs alike.
        learning_rate: its learning rate.
        batch_size: samples a step.
        epochs: passes over the training part.
        ratio, budget: size asked for all tables together; at most one.
        min_rows: smaller tables stay full, and count.
        largest: compress only so many tables, the largest.
        device: `cpu`, `cuda` or `cuda:1`.
        amp: MLPs and interaction compute in bfloat16.
        threads: torch threads; 0 for torch's default.
        latency_seconds: time spent on each latency measurement.
    """

    model: str = "dlrm"
    preset: str = "default"
    width: int = 16
    bottom: tuple[int, ...] = (64,)
    top: tuple[int, ...] = (128, 64)
    optimizer: str = "adagrad"
    learning_rate: float = 0.02
    batch_size: int = 0
    epochs: int = 1
    ratio: float | None = None
    budget: int | None = None
    min_rows: int = 200
    largest: int | None = None
    device: str = "cpu"
    amp: bool = False
    threads: int = 0
    latency_seconds: float = 0.3

    def protocol(self) -> dict[str, Any]:
        """What runs must share to stand in one comparison: all but the size asked for and the measuring."""
        shared = asdict(self)
        for name in ("ratio", "budget", "latency_seconds", "threads"):
            del shared[name]
        if not self.amp:
            del shared["amp"]  # so that runs in plain float32 stay those that they were before there was a choice
        return shared


def max_threads() -> int:
    """As many threads as may be asked for: more than four a processor only wait for each other."""
    return 4 * (os.cpu_count() or 1)


def resolve(rows: int, **options: Any) -> Settings:
    """Settings from options (None means left out), the preset and the defaults.

    Args:
        rows: rows of the data, which decide the default batch size: 256 below a million, else 2048.
        **options: fields of `Settings`.

    Raises:
        InputError: an unknown preset, model or optimizer, a value out of range, or a device that is not here.
    """
    values = {name: value for name, value in options.items() if value is not None}
    preset = values.get("preset", "default")
    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}{nearest(preset, PRESETS)}")
    settings = Settings(**{**PRESETS[preset], **values})
    settings = replace(settings, device=resolve_device(settings.device))
    model_class(settings.model)
    if settings.optimizer not in OPTIMIZERS:
        raise InputError(f"no optimizer {settings.optimizer!r}{nearest(settings.optimizer, OPTIMIZERS)}")
    for name, (minimum, maximum) in RANGES.items():
        if getattr(settings, name) is not None:
            whole(getattr(settings, name), name, minimum, maximum)
    if not 0 < settings.learning_rate < math.inf:
        raise InputError(f"the learning rate must be positive and finite, got {settings.learning_rate}")
    if settings.batch_size == 0:
        settings = replace(settings, batch_size=256 if rows < LARGE else 2048)
    return settings
