"""How long a training step takes against its arithmetic alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from embpress.compressors import Spec, TableCollection, TableSpec
from embpress.dlrm.experiment import with_optimizer
from embpress.dlrm.latency import zipf_ids
from embpress.dlrm.model import DLRM
from embpress.dlrm.optim import make_optimizers
from embpress.dlrm.settings import Settings

# Criteo-Kaggle's tables (facebookresearch/dlrm on the full data set)
KAGGLE_ROWS = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992, 5461306, 10, 5652,
    2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
_GEMM = 2048
_DENSE = 13


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


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def bench_train(
    methods: Sequence[Spec],
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
    ids = [zipf_ids(sizes, settings.batch_size, generator) for _ in range(8)]
    dense = torch.rand(settings.batch_size, _DENSE, generator=generator)
    labels = torch.rand(settings.batch_size, generator=generator).round()
    a, b = torch.rand(_GEMM, _GEMM), torch.rand(_GEMM, _GEMM)
    steps: list[tuple[Spec, DLRM, Callable[[int], object]]] = []
    for spec in methods:
        progress(f"building {spec}")
        tables = TableCollection.build(
            [TableSpec(n, settings.width, f"C{i}") for i, n in enumerate(sizes, 1)],
            with_optimizer(spec, settings),
            ratio=settings.ratio,
            budget=settings.budget,
            min_rows=settings.min_rows,
            largest=settings.largest,
            generator=generator,
        )
        model = DLRM(_DENSE, tables, settings.bottom, settings.top, generator)
        steps.append((spec, model, _step_of(model, settings, dense, ids, labels)))
    gemm: list[float] = []
    times: list[list[tuple[float, float]]] = [[] for _ in steps]
    for repeat in range(-3, repeats):  # three rounds to warm up
        progress(f"round {max(0, repeat)} of {repeats}")
        for own, (_, _, step) in zip(times, steps):
            peak = _seconds(lambda: torch.mm(a, b))
            taken = _seconds(partial(step, repeat % 8))
            if repeat >= 0:
                gemm.append(peak)
                own.append((taken, peak))
    rows = []
    for own, (spec, model, _) in zip(times, steps):
        share = mlp_flops(model, settings.batch_size) / (2 * _GEMM**3)  # of one sgemm
        rows.append(
            StepTime(
                str(spec),
                1e3 * statistics.median(taken for taken, _ in own),
                1e3 * share * statistics.median(peak for _, peak in own),
                statistics.median(taken / (share * peak) for taken, peak in own),
                model.tables.serving_bytes,
            )
        )
    return rows, 2 * _GEMM**3 / statistics.median(gemm) / 1e9


def _step_of(
    model: DLRM, settings: Settings, dense: Tensor, ids: Sequence[Tensor], labels: Tensor
) -> Callable[[int], object]:
    optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)

    def step(i: int) -> None:
        F.binary_cross_entropy_with_logits(model(dense, ids[i]), labels).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step
