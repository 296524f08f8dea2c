"""How a run is set up: model, training, size; the presets and the defaults that depend on the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from embpress.compressors import InputError
from embpress.compressors.errors import nearest
from embpress.dlrm.measure.device import resolve_device

# below this many rows small batches train better and the steps are cheap
LARGE = 1_000_000
OPTIMIZERS = ("sgd", "adagrad", "rowwise_adagrad")


@dataclass(frozen=True)
class Settings:
    """Everything about a run but the data, the method and the seed.

    Attributes:
        model: name of the preset.
        width: width D of the tables.
        bottom, top: hidden widths of the MLPs.
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

    model: str = "default"
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
        own = asdict(self)
        for name in ("ratio", "budget", "latency_seconds", "threads"):
            del own[name]
        if not self.amp:
            del own["amp"]  # so that runs in plain float32 stay those that they were before there was a choice
        return own


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # facebookresearch/dlrm, bench/dlrm_s_criteo_kaggle.sh
    "kaggle": {
        "width": 16,
        "bottom": (512, 256, 64),
        "top": (512, 256),
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "batch_size": 128,
    },
    # MLPerf training's DLRM on Criteo Terabyte
    "terabyte": {
        "width": 128,
        "bottom": (512, 256),
        "top": (1024, 1024, 512, 256),
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "batch_size": 2048,
    },
}


def resolve(rows: int, **given: Any) -> Settings:
    """Settings from what was given (None means not given), the preset and the defaults.

    Args:
        rows: rows of the data, which decide the default batch size: 256 below a million, else 2048.
        **given: fields of `Settings`.

    Raises:
        InputError: an unknown preset or optimizer, a value out of range, or a device that is not here.
    """
    own = {name: value for name, value in given.items() if value is not None}
    model = own.get("model", "default")
    if model not in PRESETS:
        raise InputError(f"no model {model!r}{nearest(model, PRESETS)}")
    settings = Settings(**{**PRESETS[model], **own})
    settings = replace(settings, device=resolve_device(settings.device))
    if settings.optimizer not in OPTIMIZERS:
        raise InputError(f"no optimizer {settings.optimizer!r}{nearest(settings.optimizer, OPTIMIZERS)}")
    for name in ("width", "epochs"):
        if getattr(settings, name) < 1:
            raise InputError(f"{name} must be at least 1, got {getattr(settings, name)}")
    if not settings.learning_rate > 0:
        raise InputError(f"the learning rate must be positive, got {settings.learning_rate}")
    for name in ("batch_size", "min_rows"):
        if getattr(settings, name) < 0:
            raise InputError(f"{name} cannot be negative, got {getattr(settings, name)}")
    if settings.largest is not None and settings.largest < 1:
        raise InputError(f"largest must be at least 1, got {settings.largest}")
    if settings.batch_size == 0:
        settings = replace(settings, batch_size=256 if rows < LARGE else 2048)
    return settings
