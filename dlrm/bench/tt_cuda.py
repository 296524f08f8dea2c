"""GPU cases of TT-Rec: one table's training step, rows answered from its cache, a whole model's step."""

from __future__ import annotations

import torch

from embpress.compressors import parse
from embpress.compressors.methods.tt.table import TTRec
from embpress.dlrm.bench.baselines import BmmTable
from embpress.dlrm.bench.case_cuda import INPUTS, CudaCase, CudaContext, CudaRow
from embpress.dlrm.bench.inputs import cached_table, ids_at_hit_rate
from embpress.dlrm.bench.roofline import TTShape, Work, gather, scatter, tt_backward, tt_forward
from embpress.dlrm.bench.step import KAGGLE_ROWS, bench_model, step_inputs, training_step
from embpress.dlrm.bench.tt import training
from embpress.dlrm.training.settings import resolve

DIM, RANK, LARGEST = 64, 32, 7
LIMIT_ON = "H200 SXM"  # the GPU that the limits are said of
_CACHED_SHARE = 1e-4  # of the rows, as in the paper


def train_case(batch: int, limit_s: float | None = None, math: str = "fp32") -> CudaCase:
    """Forward and backward of one table, dense gradients of the cores, against the same with torch.bmm in float32.

    Args:
        batch: lookups.
        limit_s: what it should stay under.
        math: how products are made; the floor is that of tensor cores where it is not `fp32`.
    """

    def run(context: CudaContext, row: CudaRow) -> None:
        rows, generator = context.size.rows, context.generator()
        table = TTRec(rows, DIM, rank=RANK, math=math, generator=generator).to(context.device)
        inputs = context.ids(rows, batch, generator)
        grad = torch.randn(batch, DIM, generator=generator).to(context.device)
        row.setting = {
            "rows": rows,
            "dim": DIM,
            "rank": RANK,
            "batch": batch,
            "math": math,
            "pass": "forward + backward",
        }
        row.limit_s, row.limit_on = limit_s, LIMIT_ON if limit_s else ""
        shape = TTShape.of(rows, DIM, RANK)
        work = tt_forward(shape, batch) + tt_backward(shape, batch, recompute=False)
        if math == "split-tf32":  # three products for each
            work = Work(3 * work.flops, work.read, work.written)
        rival = training(BmmTable(table), [(ids.squeeze(1),) for ids in inputs], grad)
        context.fill(row, training(table, [(ids,) for ids in inputs], grad), rival, work, tf32=math != "fp32")

    return CudaCase(f"tt-train-B{batch}{'' if math == 'fp32' else f'-{math}'}", "tt", "torch.bmm", run)


def cache_case(rate: int, counting: bool) -> CudaCase:
    """Forward and backward where `rate` per cent of the lookups hit the cache (TT-Rec, Figure 12).

    Counting the ids, which decides on the rows to cache later, belongs to a training step and waits for the device now
    and then; without it the call can be captured.
    """

    def run(context: CudaContext, row: CudaRow) -> None:
        rows, batch, generator = context.size.rows, context.size.cache_batch, context.generator()
        cached = torch.randperm(rows, generator=generator)[: max(1, int(rows * _CACHED_SHARE))]
        table = cached_table(rows, DIM, RANK, cached, generator).to(context.device).train(counting)
        ids = [ids_at_hit_rate(cached, rows, batch, rate / 100, generator) for _ in range(INPUTS)]
        inputs = [(own.view(-1, 1).to(context.device),) for own in ids]
        grad = torch.randn(batch, DIM, generator=generator).to(context.device)
        hits = round(rate / 100 * batch)
        row.setting = {
            "rows": rows, "dim": DIM, "rank": RANK, "batch": batch, "cached": len(cached), "hits": hits,
            "counting": counting, "pass": "forward + backward",
        }  # fmt: skip
        shape, misses = TTShape.of(rows, DIM, RANK), batch - hits
        work = (
            tt_forward(shape, misses)
            + tt_backward(shape, misses, recompute=False)
            + gather(len(cached), DIM, hits)
            + scatter(len(cached), DIM, hits, sparse=False)
        )
        full = context.full_table(rows, DIM)
        context.fill(row, training(table, inputs, grad), training(full, inputs, grad), work)

    return CudaCase(f"tt-cache-{rate}{'-counting' if counting else ''}", "cache", "EmbeddingBag", run)


def step_case() -> CudaCase:
    """Training step of DLRM's Kaggle model: the largest tables as tensor trains against all of them full."""

    def run(context: CudaContext, row: CudaRow) -> None:
        size, generator = context.size, context.generator()
        settings = resolve(
            0, preset="kaggle", batch_size=size.samples, min_rows=2, largest=LARGEST, device=str(context.device)
        )
        sizes = [max(min(n, 3), int(n * size.scale)) for n in KAGGLE_ROWS]
        inputs = step_inputs(sizes, size.samples, generator, device=context.device)
        row.setting = {
            "rows": sum(sizes), "tables": len(sizes), "tt_tables": LARGEST, "dim": settings.width, "rank": RANK,
            "batch": size.samples, "ids": "zipf 1.05", "pass": "training step",
        }  # fmt: skip
        models = [
            bench_model(sizes, parse(spec), settings, context.generator()) for spec in (f"tt:rank={RANK}", "full")
        ]
        ours, rival = (training_step(model, settings, inputs) for model in models)
        context.fill(row, ours, rival, None)

    return CudaCase("tt-dlrm-step", "model", "full tables", run)
