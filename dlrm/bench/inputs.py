"""Tables, ids and training steps of the cases: what is drawn, what is stored, what is cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from embpress.compressors import Compressor, TableCollection, TableConfig
from embpress.compressors.methods.hashing import draw_coefficients
from embpress.compressors.methods.robe import Robe
from embpress.compressors.methods.tt.table import TTRec
from embpress.dlrm.bench.case import Context
from embpress.dlrm.bench.timing import Call
from embpress.dlrm.measure.latency import zipf_ids
from embpress.dlrm.training.optim import make_optimizers

INPUTS = 16  # sets of ids in turn
ZIPF = 1.2
LEARNING_RATE = 0.01
_COLD_BYTES = 1 << 30  # of rows, more than a processor's cache holds


def uniform(n: int, count: int, generator: Generator) -> Tensor:
    """Ids `(count,)`, every row alike."""
    return torch.randint(n, (count,), generator=generator)


def zipf(n: int, count: int, generator: Generator) -> Tensor:
    """Ids `(count,)`, few rows much more often than the others."""
    return zipf_ids([n], count, generator, ZIPF).squeeze(1)


def training(table: nn.Module, inputs: Sequence[tuple[Tensor, ...]], grad: Tensor) -> Call:
    """Forward and backward on the inputs in turn, every gradient made anew."""
    parameters = list(table.parameters())

    def step(i: int) -> None:
        for parameter in parameters:
            parameter.grad = None
        table(*inputs[i % len(inputs)]).backward(grad)

    return step


def updating(
    table: nn.Module, optimizers: Sequence[Optimizer], inputs: Sequence[tuple[Tensor, ...]], grad: Tensor
) -> Call:
    """Forward, backward and the optimizers' update on the inputs in turn; a fused table has no optimizers."""

    def step(i: int) -> None:
        table(*inputs[i % len(inputs)]).backward(grad)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


def sets_of_ids(rows: int, dim: int, count: int) -> int:
    """How many sets of `count` uniform ids leave little of a table `(rows, dim)` in the processor's cache between them.

    A gigabyte's rows, or as many ids as the table has rows.
    """
    return max(INPUTS, -(-min(_COLD_BYTES // (4 * dim), rows) // count))


def one_table(
    spec: str, rows: int, dim: int, context: Context, sparse: bool | Literal["auto"] = "auto", optimizer: str = "sgd"
) -> tuple[Compressor, list[Optimizer]]:
    """A table made and trained as a collection's, with its optimizers; gradients sparse where that is faster."""
    collection = TableCollection.build(
        [TableConfig(rows, dim, "table")],
        spec,
        min_rows=0,
        sparse=sparse,
        update={"optimizer": optimizer, "learning_rate": LEARNING_RATE},
        device=context.device,
        generator=context.generator(),
    )
    return collection.tables[0], make_optimizers(collection, optimizer, LEARNING_RATE)


def robe_table(rows: int, dim: int, z: int, elements: int, context: Context) -> Robe:
    """A ROBE table whose array of so many elements is made on the device: some are gigabytes."""
    memory = nn.Parameter(torch.empty(elements, device=context.device).uniform_(-1, 1))
    coefficients = draw_coefficients((3,), context.generator())
    return Robe(rows, dim, z=z, memory=memory, coefficients=coefficients, device=context.device)


def stored_and_recomputed(
    n: int, dim: int, rank: int, generator: Generator, device: torch.device | str = "cpu"
) -> tuple[TTRec, TTRec]:
    """The same table twice: one keeps the partial products for its backward, the other computes them again."""
    stored, again = (
        TTRec(n, dim, rank=rank, store=store, generator=generator, device=device) for store in (True, False)
    )
    again.load_state_dict(stored.state_dict())
    return stored, again


def cached_table(n: int, dim: int, rank: int, cached_ids: Tensor, generator: Generator) -> TTRec:
    """A table, on their device, whose cache holds exactly the rows `cached_ids` and stays so while it is measured."""
    never = 1 << 62
    table = TTRec(
        n,
        dim,
        rank=rank,
        cache_rows=len(cached_ids),
        warmup=never,
        refresh=never,
        generator=generator,
        device=cached_ids.device,
    )
    table.fill_cache(cached_ids)
    return table


def cached_spec(rank: int, fraction: float) -> str:
    """The method that caches this share of every table's rows; they enter before the timing starts and are left alone.

    The refresh, every 1000 steps by default, is not in the timed steps; the counting of every step's ids is.
    """
    return f"tt:rank={rank}:cache_fraction={fraction:g}:warmup=20"


def ids_at_hit_rate(cached_ids: Tensor, n: int, count: int, rate: float, generator: Generator) -> Tensor:
    """Ids `(count,)` int64 of which exactly `round(rate · count)` are cached, both kinds uniform, in random order.

    Args:
        cached_ids: distinct ids in `[0, n)`.
        n: rows of the table.
        count: how many ids.
        rate: share that is to come from the cached rows, 0 to 1.
        generator: source of the draws.
    """
    cached = cached_ids.sort().values
    hits, num_cached = round(rate * count), len(cached)
    inside = cached[torch.randint(num_cached, (hits,), generator=generator)]
    # the r-th id that is not cached: r and as many as there are cached ids below it
    nth = torch.randint(n - num_cached, (count - hits,), generator=generator)
    outside = nth + torch.searchsorted(cached - torch.arange(num_cached), nth, right=True)
    return torch.cat([inside, outside])[torch.randperm(count, generator=generator)]
