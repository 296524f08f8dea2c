"""TT-Rec's op against its baselines: torch.bmm, tensorly-torch, the full table, whole models; and its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from embpress.compressors import parse
from embpress.compressors.methods.tt.table import TTRec
from embpress.dlrm.bench.baselines import BmmTable, TensorlyTable, forward_flops
from embpress.dlrm.bench.case import Case, Context, Row, dtype_name
from embpress.dlrm.bench.inputs import (
    INPUTS,
    ZIPF,
    cached_spec,
    cached_table,
    ids_at_hit_rate,
    stored_and_recomputed,
    training,
    uniform,
    zipf,
)
from embpress.dlrm.bench.memory import memory_case, terabyte_case
from embpress.dlrm.bench.roofline import TTShape, Work, gather, scatter, tt_backward, tt_forward
from embpress.dlrm.bench.step import KAGGLE_ROWS, bench_model, bench_settings, scaled, step_inputs, training_step
from embpress.dlrm.bench.timing import Call
from embpress.dlrm.measure.latency import zipf_ids
from embpress.kernels import ops

OPS = "tt_"
BMM, TENSORLY, BAG, FULL_TABLES = "torch.bmm", "tensorly-torch", "nn.EmbeddingBag", "full tables"
HIT_RATES = (0, 50, 90, 99, 100)
LARGEST = 7  # tables of a model as tensor trains, as in the paper's largest setting
# microseconds that a training step of 10,131,227 rows at rank 32 should stay under, by its batch, and on which GPU
LIMITS_US, LIMIT_ON = {10_240: 100.0, 65_536: 350.0}, "H200 SXM"
_CACHED_SHARE = 1e-4  # of the rows, as in the paper
_SETTLE = 50  # steps before a model's cache is timed


@dataclass(frozen=True)
class Size:
    """How large the cases are.

    Attributes:
        rows: of the one table that most cases look up in.
        dim: its width.
        batch: lookups in a step.
        bags: bags where several lookups are pooled.
        batches: batch sizes of the series.
        small_batch: batch of a baseline that is too slow for more.
        gpu_batches: more batch sizes on a GPU.
        memory_rows: table sizes of the memory series.
        scale: share of Criteo's table sizes in whole models.
        samples: batch of whole models.
        gemm: the matrix product is `gemm³`.
    """

    rows: int = 10_131_227
    dim: int = 64
    batch: int = 8192
    bags: int = 2048
    batches: tuple[int, ...] = (128, 512, 2048, 8192, 32768, 65536)
    small_batch: int = 2048
    gpu_batches: tuple[int, ...] = (10_240, 65_536)
    memory_rows: tuple[int, ...] = (10**5, 10**6, 10**7, 10**8, 10**9)
    scale: float = 1.0
    samples: int = 2048
    gemm: int = 2048


FULL = Size()
QUICK = Size(
    rows=10_007,
    batch=64,
    bags=16,
    batches=(16, 128),
    small_batch=32,
    gpu_batches=(32, 64),
    memory_rows=(10**5, 10**9),
    scale=1e-3,
    samples=32,
    gemm=128,
)


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order; those that hold the same full table stand together."""
    everywhere = [
        *(train_case(f"train-R{rank}", rank=rank) for rank in (16, 32, 64)),
        train_case("zipf-R32", draw=zipf),
        train_case(f"tensorly-B{size.small_batch}-R32", baseline=TENSORLY, batch=size.small_batch),
        *(train_case(f"width-D{dim}", dim=dim) for dim in (16, 128)),
        *(train_case(f"batch-{batch}", batch=batch) for batch in size.batches),
        *(train_case(f"cores-{num_cores}", num_cores=num_cores) for num_cores in (2, 3, 4)),
        recompute_case("recompute-R32"),
        train_case("float64-R32", dtype=torch.float64),
        *(train_case(f"pool-{p}", pooling=p, batch=size.bags, baseline=BAG) for p in (1, 10, 100)),
        *(cache_case(f"cache-{rate}", rate) for rate in HIT_RATES),
        *(latency_case(f"latency-B{batch}", batch) for batch in (1, 128)),
        *(memory_case(f"memory-1e{len(str(rows)) - 1}", rows) for rows in size.memory_rows),
        terabyte_case("terabyte"),
        *(
            step_case(f"dlrm-R{rank}-{ids}", rank, skewed=ids == "zipf")
            for ids in ("uniform", "zipf")
            for rank in (32, 64)
        ),
        step_case("dlrm-R32-zipf-cache", 32, cache=True),
    ]
    return everywhere + (gpu_cases(size) if device.type == "cuda" else [])


def gpu_cases(size: Size) -> list[Case]:
    """One id a bag without offsets, which a CUDA graph can capture, at a GPU's batch sizes and with its arithmetic."""
    largest = max(size.gpu_batches)
    return [
        *(train_case(f"tt-train-B{batch}", batch=batch, no_offsets=True) for batch in size.gpu_batches),
        *(
            train_case(f"tt-train-B{largest}-{math}", batch=largest, math=math, no_offsets=True)
            for math in ops.MATH
            if math != "fp32"
        ),
        cache_case("tt-cache-90", 90, counting=False, no_offsets=True),
        cache_case("tt-cache-90-counting", 90, no_offsets=True),
        step_case("tt-dlrm-step", 32),
    ]


def train_case(
    name: str,
    *,
    rank: int = 32,
    baseline: str = BMM,
    dim: int | None = None,
    num_cores: int = 3,
    batch: int | None = None,
    pooling: int = 1,
    draw: Callable[[int, int, Generator], Tensor] = uniform,
    dtype: torch.dtype = torch.float32,
    math: str = "fp32",
    no_offsets: bool = False,
) -> Case:
    """Forward and backward of one table against a baseline and a matrix product of the same dtype."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        width, bags = dim or size.dim, batch or size.batch
        table = TTRec(
            size.rows,
            width,
            rank=rank,
            num_cores=num_cores,
            math=math,
            dtype=dtype,
            generator=generator,
            device=context.device,
        )
        ids = [draw(size.rows, bags * pooling, generator).to(context.device) for _ in range(INPUTS)]
        inputs = _bags(ids, pooling, no_offsets)
        row.setting = {
            "rows": size.rows, "dim": width, "rank": rank, "cores": num_cores, "batch": bags, "pooling": pooling,
            "ids": f"zipf {ZIPF:g}" if draw is zipf else "uniform", "dtype": dtype_name(dtype), "math": math,
            "pass": "forward + backward", "p": table.row_factors, "q": table.column_factors,
        }  # fmt: skip
        grad = torch.randn(bags, width, dtype=dtype, generator=generator).to(context.device)
        distinct = sum(len(each.unique()) for each in ids) / len(ids)
        row.setting["distinct"] = distinct
        if no_offsets and rank == 32 and bags in LIMITS_US and math == "fp32":
            row.limit_s, row.limit_on = LIMITS_US[bags] / 1e6, LIMIT_ON
        context.fill(
            row,
            training(table, inputs, grad),
            _baseline(baseline, table, inputs, grad, context),
            needed_flops=3 * distinct * forward_flops(table),
            dtype=dtype,
            work=_work(table, bags, math) if pooling == 1 and draw is uniform and dtype == torch.float32 else None,
            tf32=math != "fp32",
        )

    return Case(name, "op", baseline, run)


def _bags(ids: Sequence[Tensor], pooling: int = 1, no_offsets: bool = False) -> list[tuple[Tensor, ...]]:
    """What a table is called with: ids `(N,)` and offsets, or ids `(B, 1)` alone."""
    if no_offsets:
        return [(each.view(-1, 1),) for each in ids]
    offsets = torch.arange(0, len(ids[0]), pooling, device=ids[0].device)
    return [(each, offsets) for each in ids]


def _work(table: TTRec, lookups: int, math: str = "fp32") -> Work:
    """Counted work of forward and backward on uniform ids, one a bag."""
    shape = TTShape(tuple(table.row_factors), tuple(table.column_factors), tuple(table.ranks))
    work = tt_forward(shape, lookups) + tt_backward(shape, lookups, recompute=False)
    return Work(3 * work.flops, work.read, work.written) if math == "split-tf32" else work  # three products for each


def _baseline(name: str, table: TTRec, inputs: Sequence[tuple[Tensor, ...]], grad: Tensor, context: Context) -> Call:
    if name == BAG:
        return training(context.full_table(), inputs, grad)
    module = BmmTable(table) if name == BMM else TensorlyTable(table)
    return training(module, [(ids.flatten(),) for ids, *_ in inputs], grad)  # one id a bag need not be pooled


def recompute_case(name: str, rank: int = 32) -> Case:
    """Keeping the partial products for the backward against computing them again."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        tables = stored_and_recomputed(size.rows, size.dim, rank, generator, context.device)
        ids = [uniform(size.rows, size.batch, generator).to(context.device) for _ in range(INPUTS)]
        row.setting = _setting(context, rank)
        grad = torch.randn(size.batch, size.dim, generator=generator).to(context.device)
        stored, again = (training(table, _bags(ids), grad) for table in tables)
        needed = 3 * size.batch * forward_flops(tables[0])
        context.fill(row, stored, again, needed_flops=needed, work=_work(tables[0], size.batch))

    return Case(name, "op", "recompute", run)


def _setting(context: Context, rank: int) -> dict[str, Any]:
    size = context.size
    return {
        "rows": size.rows, "dim": size.dim, "rank": rank, "cores": 3, "batch": size.batch, "pooling": 1,
        "ids": "uniform", "dtype": "float32", "pass": "forward + backward",
    }  # fmt: skip


def cache_case(name: str, rate: int, rank: int = 32, *, counting: bool = True, no_offsets: bool = False) -> Case:
    """Forward and backward where `rate` per cent of the lookups hit the cache (TT-Rec, Figure 12).

    Counting the ids, which decides on the rows to cache later, belongs to a training step and waits for the device now
    and then; without it the call can be captured.
    """

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        cached_ids = torch.randperm(size.rows, generator=generator)[: max(1, int(size.rows * _CACHED_SHARE))]
        table = cached_table(size.rows, size.dim, rank, cached_ids.to(context.device), generator).train(counting)
        drawn = (ids_at_hit_rate(cached_ids, size.rows, size.batch, rate / 100, generator) for _ in range(INPUTS))
        inputs = _bags([ids.to(context.device) for ids in drawn], no_offsets=no_offsets)
        hits, num_cached = round(rate / 100 * size.batch), len(cached_ids)
        row.setting = _setting(context, rank) | {"cached": num_cached, "hits": hits, "counting": counting}
        grad = torch.randn(size.batch, size.dim, generator=generator).to(context.device)
        work = (
            _work(table, size.batch - hits)
            + gather(num_cached, size.dim, hits)
            + scatter(num_cached, size.dim, hits, sparse=False)
        )
        full = training(context.full_table(), inputs, grad)
        context.fill(row, training(table, inputs, grad), full, work=work)

    return Case(name, "cache", BAG, run)


def latency_case(name: str, batch: int, rank: int = 16) -> Case:
    """One lookup of the folded table, without autograd, against the full table."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        table = TTRec(size.rows, size.dim, rank=rank, generator=generator, device=context.device).fold()
        full = context.full_table()
        offsets = torch.arange(batch, device=context.device)
        # enough sets of ids that the full table's rows do not lie in the processor's cache from the time before
        sets = min(4096, max(INPUTS, (1 << 16) // batch))
        inputs = [uniform(size.rows, batch, generator).to(context.device) for _ in range(sets)]
        row.setting = _setting(context, rank) | {"batch": batch, "pass": "lookup"}

        def lookups(module: nn.Module) -> Call:
            return lambda i: module(inputs[i % len(inputs)], offsets)

        was = full.training
        full.eval()
        with torch.no_grad():
            context.fill(row, lookups(table), lookups(full))
        full.train(was)

    return Case(name, "latency", BAG, run)


def step_case(name: str, rank: int, *, skewed: bool = True, cache: bool = False) -> Case:
    """Training step (forward, backward, SGD) of DLRM's Kaggle model at Criteo-Kaggle's table sizes, or a share of them,
    with tensor trains in its largest tables against full tables."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        spec = parse(cached_spec(rank, _CACHED_SHARE) if cache else f"tt:rank={rank}")
        settings = bench_settings("kaggle", size.samples, context.device, min_rows=2, largest=LARGEST)
        sizes = scaled(KAGGLE_ROWS, size.scale)
        full = context.hold(
            ("dlrm", size.scale), lambda: bench_model(sizes, parse("full"), settings, context.generator())
        )
        model = bench_model(sizes, spec, settings, generator)
        inputs = step_inputs(sizes, size.samples, generator, zipf_ids if skewed else _uniform, context.device)
        row.setting = {
            "rows": sum(sizes), "tables": len(sizes), "tt_tables": LARGEST, "dim": settings.width, "rank": rank,
            "batch": size.samples, "ids": "zipf 1.05" if skewed else "uniform", "optimizer": settings.optimizer,
            "method": str(spec), "pass": "training step",
        }  # fmt: skip
        ours, baseline = (training_step(each, settings, inputs) for each in (model, full))
        if cache:
            for i in range(_SETTLE):
                ours(i)
        context.fill(row, ours, baseline)
        row.figures = {"serving_bytes": model.tables.serving_bytes, "full_bytes": full.tables.serving_bytes}

    return Case(name, "dlrm", FULL_TABLES, run)


def _uniform(sizes: Sequence[int], rows: int, generator: Generator) -> Tensor:
    return torch.stack([torch.randint(n, (rows,), generator=generator) for n in sizes], dim=1)
