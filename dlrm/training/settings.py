"""How a run is set up: model, training, size; the defaults that depend on the data.

Help names what is in here, so it is imported without torch.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields, replace
from typing import Any

from embpress.dlrm.training.presets import presets

# below this many rows small batches train better and the steps are cheap
LARGE = 1_000_000
# rows that are always read together where samples are mixed by windows: see `order.Windows`
SHUFFLE_BLOCK = 1 << 12
OPTIMIZERS = ("sgd", "adagrad", "rowwise_adagrad", "adam")
# what a whole number may be; a batch of 0 is the default one
RANGES = {
    "width": (1, 65_536),
    "epochs": (1, 1_000_000),
    "batch_size": (0, 1 << 24),
    "min_rows": (0, 2**63 - 1),
    "largest": (1, 2**63 - 1),
    "shuffle_window": (SHUFFLE_BLOCK, 2**40),
    "processes": (1, 1 << 16),
}


@dataclass(frozen=True)
class Settings:
    """Everything about a run but the data, the method and the seed.

    Attributes:
        model: the click model, a file of `dlrm/models`.
        preset: where the other values came from, a file of `dlrm/training/presets`.
        width: width D of the tables.
        options: those of the click model, by name.
        optimizer: one of `OPTIMIZERS`, for tables and MLPs alike.
        learning_rate: its learning rate.
        batch_size: samples a step.
        epochs: passes over the training part.
        shuffle_window: samples are mixed within so many rows, and not among all; None leaves it to the number of rows:
            see `order.window_of`.
        ratio, budget: size asked for all tables together; at most one.
        min_rows: smaller tables stay full, and count.
        largest: compress only so many tables, the largest.
        device: `cpu`, `cuda` or `cuda:1`.
        amp: MLPs and interaction compute in bfloat16.
        threads: torch threads; 0 for torch's default.
        processes: how many train each run together, on their shares of the same batches.
        latency_seconds: time spent on each latency measurement.
        tune: how each method's own learning rate and knobs are chosen, beginning at `learning_rate`: see `dlrm.tuning`;
            empty where all train at that rate.
    """

    model: str = "dlrm"
    preset: str = "default"
    width: int = 16
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "adagrad"
    learning_rate: float = 0.02
    batch_size: int = 0
    epochs: int = 1
    shuffle_window: int | None = None
    ratio: float | None = None
    budget: int | None = None
    min_rows: int = 200
    largest: int | None = None
    device: str = "cpu"
    amp: bool = False
    threads: int = 0
    processes: int = 1
    latency_seconds: float = 0.3
    tune: str = ""


def max_threads() -> int:
    """As many threads as may be asked for: more than four a processor only wait for each other."""
    return 4 * (os.cpu_count() or 1)


def resolve(rows: int, **options: Any) -> Settings:
    """Settings from options (None means left out), the preset and the defaults.

    Args:
        rows: rows of the data, which decide the default batch size: 256 below a million, else 2048.
        **options: fields of `Settings`, and options of the click model.

    Raises:
        InputError: an unknown preset, model, optimizer, option or way to tune, a value out of range, or a device that
            is not here.
    """
    from embpress.compressors.errors import InputError, nearest
    from embpress.compressors.guard import whole
    from embpress.dlrm.measure.device import resolve_device
    from embpress.dlrm.models.base import model_class, models
    from embpress.dlrm.option import values_of
    from embpress.dlrm.tuning import parse

    own = {one.name for one in fields(Settings)} - {"options"}
    values = {name: value for name, value in options.items() if value is not None and name in own}
    preset, model = values.get("preset", Settings.preset), values.get("model", Settings.model)
    known = presets()
    if preset not in known:
        raise InputError(f"no preset {preset!r}{nearest(preset, known)}")
    said = known[preset]
    of_model = {o.name: o.presets.get(preset, said.get(o.name, o.default)) for o in model_class(model).options}
    given = {name: value for name, value in options.items() if name not in own}
    of_model |= values_of("model", model, given, {name: cls.options for name, cls in models().items()})
    values = {**{name: value for name, value in said.items() if name in own}, **values}
    settings = Settings(**values, options=of_model)
    settings = replace(settings, device=resolve_device(settings.device))
    if settings.optimizer not in OPTIMIZERS:
        raise InputError(f"no optimizer {settings.optimizer!r}{nearest(settings.optimizer, OPTIMIZERS)}")
    for name, (minimum, maximum) in RANGES.items():
        if getattr(settings, name) is not None:
            whole(getattr(settings, name), name, minimum, maximum)
    if not 0 < settings.learning_rate < math.inf:
        raise InputError(f"the learning rate must be positive and finite, got {settings.learning_rate}")
    if settings.tune:
        parse(settings.tune, settings.learning_rate)
    if settings.batch_size == 0:
        settings = replace(settings, batch_size=256 if rows < LARGE else 2048)
    return settings
