"""A DLRM's training step with any methods against its MLPs' arithmetic at sgemm's speed of the same repeats."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from embpress.compressors import InputError, MethodSpec, parse_all
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.step import (
    KAGGLE_ROWS,
    bench_model,
    bench_settings,
    mlp_flops,
    scaled,
    step_inputs,
    training_step,
)
from embpress.dlrm.bench.suite import knob
from embpress.dlrm.training.presets import presets
from embpress.dlrm.training.settings import Settings


@dataclass(frozen=True)
class Size:
    """Which model, and how large; the matrix product is `gemm³`."""

    methods: str = knob("full", "Methods with their knobs, separated by commas.")
    preset: str = knob("kaggle", f"Sizes of the MLPs: one of {', '.join(presets())}.")
    batch_size: int = knob(2048, "Samples a step.")
    scale: float = knob(0.1, "Table sizes as a share of Criteo-Kaggle's.")
    ratio: float | None = knob(None, "Full bytes / serving bytes of all tables together.", float)
    largest: int | None = knob(None, "Compress only so many tables, the largest.", int)
    amp: bool = knob(False, "MLPs and interaction in bfloat16; sgemm stays in float32.")
    gemm: int = 2048


FULL = Size()
QUICK = Size(batch_size=64, scale=1e-4, gemm=128)


def cases(size: Size, device: torch.device) -> list[Case]:
    """A case a method."""
    if size.batch_size < 1 or not 0 < size.scale <= 1:
        raise InputError("--batch-size must be at least 1, --scale between 0 and 1")
    _settings(size, "cpu")  # refuses what it must before anything is built
    return [_case(spec) for spec in parse_all(size.methods)]


def _settings(size: Size, device: torch.device | str) -> Settings:
    return bench_settings(size.preset, size.batch_size, device, ratio=size.ratio, largest=size.largest, amp=size.amp)


def _case(spec: MethodSpec) -> Case:
    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        settings = _settings(size, context.device)
        sizes = scaled(KAGGLE_ROWS, size.scale)
        inputs = step_inputs(sizes, size.batch_size, generator, device=context.device)
        model = bench_model(sizes, spec, settings, generator)
        row.setting = {
            "rows": sum(sizes), "tables": len(sizes), "dim": settings.width, "batch": size.batch_size,
            "ids": "zipf 1.05", "optimizer": settings.optimizer, "method": str(spec), "pass": "training step",
        }  # fmt: skip
        needed = mlp_flops(model, size.batch_size)
        context.fill(row, training_step(model, settings, inputs), needed_flops=needed)
        # the baseline is that arithmetic at the product's speed, so its share of the step is the ratio
        row.ratio, row.baseline_s = row.of_peak, needed / (1e9 * row.figures["gemm_gflops"])
        row.figures["serving_bytes"] = model.tables.serving_bytes

    return Case(str(spec), "train", "MLPs' arithmetic", run)
