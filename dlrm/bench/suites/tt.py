"""Cases of one TT-Rec table: training step against its rivals, lookup latency, cache hit rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.methods.tt.table import TTRec
from embpress.dlrm.bench.baselines import BmmTable, TensorlyTable, forward_flops
from embpress.dlrm.bench.case import Case, Context, Row, dtype_name
from embpress.dlrm.bench.inputs import cached_table, ids_at_hit_rate, stored_and_recomputed
from embpress.dlrm.bench.timing import Call, Gemm
from embpress.dlrm.measure.latency import zipf_ids

_INPUTS = 16  # sets of ids in turn
HIT_RATES = (0, 50, 90, 99, 100)
_CACHED_SHARE = 1e-4  # of the rows, as in the paper
ZIPF = 1.2
BMM, TENSORLY, BAG = "torch.bmm", "tensorly-torch", "nn.EmbeddingBag"


def uniform(n: int, count: int, generator: Generator) -> Tensor:
    """Ids `(count,)`, every row alike."""
    return torch.randint(n, (count,), generator=generator)


def _zipf(n: int, count: int, generator: Generator) -> Tensor:
    return zipf_ids([n], count, generator, ZIPF).squeeze(1)


def training(table: nn.Module, inputs: Sequence[tuple[Tensor, ...]], grad: Tensor) -> Call:
    """Forward and backward on the inputs in turn, every gradient made anew."""
    parameters = list(table.parameters())

    def step(i: int) -> None:
        for parameter in parameters:
            parameter.grad = None
        table(*inputs[i % len(inputs)]).backward(grad)

    return step


def _rows_of(inputs: Iterable[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """The same ids without offsets: a rival with one id a bag need not pool."""
    return [(ids,) for ids, *_ in inputs]


def train_case(
    name: str,
    *,
    rank: int = 32,
    rival: str = BMM,
    dim: int | None = None,
    cores: int = 3,
    batch: int | None = None,
    pooling: int = 1,
    zipf: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Case:
    """Forward and backward of one table against a rival and a matrix product of the same dtype."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        width, bags = dim or size.dim, batch or size.batch
        table = TTRec(
            size.rows, width, rank=rank, num_cores=cores, dtype=dtype, generator=generator, device=context.device
        )
        draw = _zipf if zipf else uniform
        offsets = torch.arange(0, bags * pooling, pooling, device=context.device)
        inputs = [(draw(size.rows, bags * pooling, generator).to(context.device), offsets) for _ in range(_INPUTS)]
        row.setting = {
            "rows": size.rows, "dim": width, "rank": rank, "cores": cores, "batch": bags, "pooling": pooling,
            "ids": f"zipf {ZIPF:g}" if zipf else "uniform", "dtype": dtype_name(dtype), "pass": "forward + backward",
            "p": table.row_factors, "q": table.column_factors,
        }  # fmt: skip
        grad = torch.randn(bags, width, dtype=dtype, generator=generator).to(context.device)
        distinct = sum(len(ids.unique()) for ids, _ in inputs) / len(inputs)
        row.setting["distinct"] = distinct
        calls = [training(table, inputs, grad), _rival(rival, table, inputs, grad, context)]
        _time(context, row, calls, dtype, 3 * distinct * forward_flops(table))

    return Case(name, "op", rival, run)


def _rival(
    name: str, table: TTRec, inputs: Sequence[tuple[Tensor, ...]], grad: Tensor, context: Context
) -> Callable[[int], object]:
    if name == BAG:
        return training(context.full_table(), inputs, grad)
    made = BmmTable(table) if name == BMM else TensorlyTable(table)
    return training(made, _rows_of(inputs), grad)


def _time(context: Context, row: Row, calls: Sequence[Call], dtype: torch.dtype, flops: float | None) -> None:
    gemm = Gemm(context.size.gemm, dtype, context.device)
    row.take(context.paired([*calls, gemm]), gemm, flops)


def recompute_case(name: str, rank: int = 32) -> Case:
    """Keeping the partial products for the backward against computing them again."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        tables = stored_and_recomputed(size.rows, size.dim, rank, generator, context.device)
        offsets = torch.arange(size.batch, device=context.device)
        inputs = [(uniform(size.rows, size.batch, generator).to(context.device), offsets) for _ in range(_INPUTS)]
        row.setting = _setting(context, rank)
        grad = torch.randn(size.batch, size.dim, generator=generator).to(context.device)
        _time(
            context,
            row,
            [training(table, inputs, grad) for table in tables],
            torch.float32,
            3 * size.batch * forward_flops(tables[0]),
        )

    return Case(name, "op", "recompute", run)


def _setting(context: Context, rank: int) -> dict[str, Any]:
    size = context.size
    return {
        "rows": size.rows, "dim": size.dim, "rank": rank, "cores": 3, "batch": size.batch, "pooling": 1,
        "ids": "uniform", "dtype": "float32", "pass": "forward + backward",
    }  # fmt: skip


def cache_case(name: str, rate: int, rank: int = 32) -> Case:
    """Forward and backward where `rate` per cent of the lookups hit the cache (TT-Rec, Figure 12)."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        cached_ids = torch.randperm(size.rows, generator=generator)[: max(1, int(size.rows * _CACHED_SHARE))]
        table = cached_table(size.rows, size.dim, rank, cached_ids.to(context.device), generator)
        offsets = torch.arange(size.batch, device=context.device)
        ids = [ids_at_hit_rate(cached_ids, size.rows, size.batch, rate / 100, generator) for _ in range(_INPUTS)]
        inputs = [(own.to(context.device), offsets) for own in ids]
        row.setting = _setting(context, rank) | {
            "cached": len(cached_ids),
            "hits": round(rate / 100 * size.batch),
        }
        grad = torch.randn(size.batch, size.dim, generator=generator).to(context.device)
        calls = [training(table, inputs, grad), training(context.full_table(), inputs, grad)]
        row.take(context.paired(calls))

    return Case(name, "cache", BAG, run)


def latency_case(name: str, batch: int, rank: int = 16) -> Case:
    """One lookup of the folded table, without autograd, against the full table."""

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        table = TTRec(size.rows, size.dim, rank=rank, generator=generator, device=context.device).fold()
        full = context.full_table()
        offsets = torch.arange(batch, device=context.device)
        # enough sets of ids that the full table's rows do not lie in the processor's cache from the time before
        sets = min(4096, max(_INPUTS, (1 << 16) // batch))
        inputs = [uniform(size.rows, batch, generator).to(context.device) for _ in range(sets)]
        row.setting = _setting(context, rank) | {"batch": batch, "pass": "lookup"}

        def lookups(module: nn.Module) -> Call:
            return lambda i: module(inputs[i % len(inputs)], offsets)

        was = full.training
        full.eval()
        with torch.no_grad():
            calls = [lookups(table), lookups(full)]
            row.take(context.paired(calls))
        full.train(was)

    return Case(name, "latency", BAG, run)
