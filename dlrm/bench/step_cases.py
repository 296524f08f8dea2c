"""Cases of a whole model: DLRM's training step with tensor trains in its largest tables against full tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from embpress.compressors import parse
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import cached_spec
from embpress.dlrm.bench.step import KAGGLE_ROWS, bench_model, step_inputs, training_step
from embpress.dlrm.measure.latency import zipf_ids
from embpress.dlrm.training.settings import resolve

LARGEST = 7  # tables as tensor trains, as in the paper's largest setting
CACHE_FRACTION = 1e-4
FULL = "full tables"
_SETTLE = 50  # steps before a cache is timed


def _uniform(sizes: Sequence[int], rows: int, generator: Generator) -> Tensor:
    return torch.stack([torch.randint(n, (rows,), generator=generator) for n in sizes], dim=1)


def step_case(name: str, rank: int, *, zipf: bool, cache: bool = False) -> Case:
    """Training step (forward, backward, SGD) of DLRM's Kaggle model at Criteo-Kaggle's table sizes."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        spec = parse(cached_spec(rank, CACHE_FRACTION) if cache else f"tt:rank={rank}")
        settings = resolve(
            0, preset="kaggle", batch_size=size.samples, min_rows=2, largest=LARGEST, device=str(context.device)
        )
        sizes = [max(min(n, 3), int(n * size.scale)) for n in KAGGLE_ROWS]
        full = context.hold(
            ("dlrm", size.scale), lambda: bench_model(sizes, parse("full"), settings, context.generator())
        )
        model = bench_model(sizes, spec, settings, generator)
        draw: Callable[[Sequence[int], int, Generator], Tensor] = zipf_ids if zipf else _uniform
        inputs = step_inputs(sizes, size.samples, generator, draw, context.device)
        row.setting = {
            "rows": sum(sizes), "tables": len(sizes), "tt_tables": LARGEST, "dim": settings.width, "rank": rank,
            "batch": size.samples, "ids": "zipf 1.05" if zipf else "uniform", "optimizer": settings.optimizer,
            "method": str(spec), "pass": "training step",
        }  # fmt: skip
        steps = [training_step(made, settings, inputs) for made in (model, full)]
        if cache:
            for i in range(_SETTLE):
                steps[0](i)
        row.take(context.paired(steps))
        row.figures = {"serving_bytes": model.tables.serving_bytes, "full_bytes": full.tables.serving_bytes}

    return Case(name, "dlrm", FULL, run)
