"""Parts of TT-Rec that a build may lack, one adapter each: the only place that knows how they are asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from embpress.compressors.tt import TTRec
from embpress.dlrm.bench_rivals import NotMeasured

_NO_CACHE = "this build has no cache"


def needs(knob: str, lack: str) -> None:
    """Raises NotMeasured with `lack` where TTRec has no keyword `knob`."""
    if knob not in TTRec.knob_names():
        raise NotMeasured(lack)


def stored_and_recomputed(n: int, dim: int, rank: int, generator: Generator) -> tuple[TTRec, TTRec]:
    """The same table twice: one keeps the partial products for its backward, the other computes them again."""
    needs("intermediates", "this build has no choice between store and recompute")
    options: dict[str, Any] = {"rank": rank, "generator": generator}
    stored, again = (TTRec(n, dim, **options | {"intermediates": way}) for way in ("store", "recompute"))
    again.load_state_dict(stored.state_dict())
    return stored, again


def cached_table(n: int, dim: int, rank: int, cached_ids: Tensor, generator: Generator) -> TTRec:
    """A table whose cache holds exactly the rows `cached_ids`, and which stays so while it is measured."""
    needs("cache_rows", _NO_CACHE)
    options: dict[str, Any] = {"rank": rank, "cache_rows": len(cached_ids), "generator": generator}
    table = TTRec(n, dim, **options)
    fill = getattr(table, "fill_cache", None)
    if fill is None:
        raise NotMeasured("this build cannot be told which rows to cache")
    fill(cached_ids)
    return table


def cached_spec(rank: int, fraction: float) -> str:
    """The method that caches this share of every table's rows."""
    needs("cache_fraction", _NO_CACHE)
    return f"tt:rank={rank}:cache_fraction={fraction:g}"


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
    hits, held = round(rate * count), len(cached)
    inside = cached[torch.randint(held, (hits,), generator=generator)]
    # the r-th id that is not cached: r and as many as there are cached ids below it
    nth = torch.randint(n - held, (count - hits,), generator=generator)
    outside = nth + torch.searchsorted(cached - torch.arange(held), nth, right=True)
    return torch.cat([inside, outside])[torch.randperm(count, generator=generator)]
