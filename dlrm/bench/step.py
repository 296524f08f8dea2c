"""Training steps of a DLRM for the cases of whole models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from embpress.compressors import MethodSpec, TableCollection, TableConfig
from embpress.dlrm.data import Part
from embpress.dlrm.measure.latency import zipf_ids
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.models.dlrm import DLRM
from embpress.dlrm.training.optim import make_optimizers, sparse_gradients
from embpress.dlrm.training.settings import Settings, resolve
from embpress.dlrm.training.step import train_step

# Criteo-Kaggle's tables (facebookresearch/dlrm on the full data set)
KAGGLE_ROWS = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992, 5461306, 10, 5652,
    2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
_DENSE = 13
_INPUTS = 8  # batches in turn


def scaled(rows: Sequence[int], scale: float) -> list[int]:
    """Table sizes as a share of these, three rows at least where there are so many."""
    return [max(min(n, 3), int(n * scale)) for n in rows]


def bench_settings(preset: str, batch_size: int, device: torch.device | str = "cpu", **others: Any) -> Settings:
    """Settings of a training step on a device, by the preset's sizes and optimizer."""
    return resolve(0, preset=preset, batch_size=batch_size, device=str(device), **others)


def mlp_flops(model: ClickModel, batch_size: int) -> int:
    """Floating point operations of the dense layers in one training step: three times those of the forward."""
    return 3 * batch_size * model.dense_flops()


def step_inputs(
    sizes: Sequence[int],
    batch_size: int,
    generator: Generator,
    draw: Callable[[Sequence[int], int, Generator], Tensor] = zipf_ids,
    device: torch.device | str = "cpu",
) -> list[Part]:
    """Random batches for tables of these sizes, on a device; `draw(sizes, B, generator)` makes the ids.

    They differ in their ids alone.
    """
    ids = [draw(sizes, batch_size, generator).to(device) for _ in range(_INPUTS)]
    dense = torch.rand(batch_size, _DENSE, generator=generator).to(device)
    labels = torch.rand(batch_size, generator=generator).round().to(device)
    return [Part(labels, dense, batch) for batch in ids]


def bench_model(sizes: Sequence[int], spec: MethodSpec, settings: Settings, generator: Generator) -> DLRM:
    """The DLRM of the settings with tables of these sizes."""
    tables = TableCollection.build(
        [TableConfig(n, settings.width, f"C{i}") for i, n in enumerate(sizes, 1)],
        spec,
        sparse=sparse_gradients(settings.optimizer),
        update={"optimizer": settings.optimizer, "learning_rate": settings.learning_rate},
        ratio=settings.ratio,
        budget=settings.budget,
        min_rows=settings.min_rows,
        largest=settings.largest,
        device=settings.device,
        generator=generator,
    )
    return DLRM(_DENSE, tables, generator=generator, amp=settings.amp, **settings.options)


def training_step(
    model: ClickModel, settings: Settings, inputs: Sequence[Part], optimizers: Sequence[Optimizer] | None = None
) -> Callable[[int], object]:
    """One step on batch `i` (they are taken in turn); default: with the optimizers of the settings."""
    if optimizers is None:
        optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
    return lambda i: train_step(model, optimizers, inputs[i % len(inputs)], i)
