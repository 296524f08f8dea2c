"""How long a training step takes against its arithmetic alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from embpress.compressors import MethodSpec, TableCollection, TableConfig
from embpress.dlrm.bench.timing import Gemm, seconds_of
from embpress.dlrm.data import Part
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.measure.latency import zipf_ids
from embpress.dlrm.models.dlrm import DLRM
from embpress.dlrm.runs.experiment import with_optimizer
from embpress.dlrm.training.optim import make_optimizers
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.training.step import train_step

# Criteo-Kaggle's tables (facebookresearch/dlrm on the full data set)
KAGGLE_ROWS = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992, 5461306, 10, 5652,
    2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
_DENSE = 13
_INPUTS = 8  # batches in turn


@dataclass
class StepTime:
    """Median times of one method's training step.

    Attributes:
        method: the spec.
        step_ms: median step.
        arithmetic_ms: the MLPs' multiply-adds, forward and both backward products, at sgemm's speed of the same run.
        ratio: median over the repeats of step / arithmetic, each pair measured one after the other.
        serving_bytes: of the tables.
    """

    method: str
    step_ms: float
    arithmetic_ms: float
    ratio: float
    serving_bytes: int


def mlp_flops(model: DLRM, batch_size: int) -> int:
    """Floating point operations of the linear layers in one training step: `3 · 2 · B · in · out` each."""
    layers = [m for part in (model.bottom, model.top) for m in part if isinstance(m, torch.nn.Linear)]
    return sum(6 * batch_size * layer.in_features * layer.out_features for layer in layers)


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
    return [Part(labels, dense, own) for own in ids]


def bench_model(sizes: Sequence[int], spec: MethodSpec, settings: Settings, generator: Generator) -> DLRM:
    """The DLRM of the settings with tables of these sizes."""
    tables = TableCollection.build(
        [TableConfig(n, settings.width, f"C{i}") for i, n in enumerate(sizes, 1)],
        with_optimizer(spec, settings),
        ratio=settings.ratio,
        budget=settings.budget,
        min_rows=settings.min_rows,
        largest=settings.largest,
        device=settings.device,
        generator=generator,
    )
    return DLRM(_DENSE, tables, settings.bottom, settings.top, generator, settings.amp)


def bench_train(
    methods: Sequence[MethodSpec],
    settings: Settings,
    scale: float,
    repeats: int,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[StepTime], float]:
    """Times training steps of the methods in turn, each paired with an sgemm next to it.

    Args:
        methods: what to put in the tables.
        settings: model, batch size, optimizer and size.
        scale: table sizes as a share of Criteo-Kaggle's.
        repeats: pairs a method.
        progress: told what is being measured.

    Returns:
        A row a method, and sgemm's median rate in GFLOP/s (2048 × 2048 × 2048).
    """
    generator = Generator().manual_seed(0)
    sizes = [max(min(n, 3), int(n * scale)) for n in KAGGLE_ROWS]
    inputs = step_inputs(sizes, settings.batch_size, generator, device=settings.device)
    gemm, clock = Gemm(device=settings.device), Clock(settings.device)
    steps: list[tuple[MethodSpec, DLRM, Callable[[int], object]]] = []
    for spec in methods:
        progress(f"building {spec}")
        model = bench_model(sizes, spec, settings, generator)
        steps.append((spec, model, training_step(model, settings, inputs)))
    peaks: list[float] = []
    times: list[list[tuple[float, float]]] = [[] for _ in steps]
    for repeat in range(-3, repeats):  # three rounds to warm up
        progress(f"round {max(0, repeat)} of {repeats}")
        for own, (_, _, step) in zip(times, steps):
            peak = seconds_of(gemm, clock)
            taken = seconds_of(step, clock, repeat)
            if repeat >= 0:
                peaks.append(peak)
                own.append((taken, peak))
    rows = []
    for own, (spec, model, _) in zip(times, steps):
        share = mlp_flops(model, settings.batch_size) / gemm.flops  # of one sgemm
        rows.append(
            StepTime(
                str(spec),
                1e3 * statistics.median(taken for taken, _ in own),
                1e3 * share * statistics.median(peak for _, peak in own),
                statistics.median(taken / (share * peak) for taken, peak in own),
                model.tables.serving_bytes,
            )
        )
    return rows, gemm.flops / statistics.median(peaks) / 1e9


def training_step(model: DLRM, settings: Settings, inputs: Sequence[Part]) -> Callable[[int], object]:
    """One step on batch `i` (they are taken in turn)."""
    optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
    return lambda i: train_step(model, optimizers, inputs[i % len(inputs)], i)
