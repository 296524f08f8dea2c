"""Latency of lookups and of the whole model, as a server would see it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from embpress.compressors import TableCollection
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.models.base import SCORED_BYTES, ClickModel

BATCHES = (1, 128, 2048)
_MIN_CALLS, _MAX_CALLS, _WARM_UP = 30, 2000, 5


def zipf_ids(sizes: Sequence[int], rows: int, generator: Generator, exponent: float = 1.05) -> Tensor:
    """Ids `(rows, F)` int64, each column from a bounded Zipf distribution over its table, row 0 the most frequent."""
    draw = torch.rand(rows, len(sizes), generator=generator, dtype=torch.float64)
    n = torch.tensor(sizes, dtype=torch.float64)
    power = 1 - exponent
    # inverse of the distribution function of x^-exponent on [1, n + 1)
    rank = ((draw * ((n + 1) ** power - 1) + 1) ** (1 / power)).floor().long() - 1
    return rank.clamp_(min=0).minimum(torch.tensor(sizes) - 1)


def percentiles(call: Callable[[int], object], seconds: float, clock: Clock) -> dict[str, float]:
    """Microseconds a call: p50, p95 and p99 after warm-up, each call by itself and waited for.

    Args:
        call: gets a running number, to vary its input.
        seconds: how long to go on.
        clock: of the device that the call works on.
    """
    for i in range(_WARM_UP):
        call(i)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _MIN_CALLS or (time.perf_counter() < end and len(times) < _MAX_CALLS):
        times.append(clock.seconds(partial(call, len(times))))
    at = torch.tensor(times, dtype=torch.float64).quantile(torch.tensor([0.5, 0.95, 0.99], dtype=torch.float64))
    return {name: 1e6 * float(value) for name, value in zip(("p50", "p95", "p99"), at)}


def _calls(
    model: ClickModel | None, tables: TableCollection, ids: Sequence[Tensor], dense: Tensor
) -> dict[str, Callable[[int], object]]:
    """What is timed, on the inputs in turn."""
    lookup = {"lookup": lambda i: tables(ids[i % len(ids)])}
    return lookup if model is None else {**lookup, "model": lambda i: model.score(dense, tables(ids[i % len(ids)]))}


def measure(model: ClickModel | None, tables: TableCollection, num_dense: int, seconds: float) -> dict[str, float]:
    """Latency metrics of the folded tables and of the model that uses them, on the tables' device.

    The ids and dense features are there already: what is timed is the answer, not the way to the device and back.

    Args:
        model: its dense layers; None measures the tables alone.
        tables: the folded tables.
        num_dense: dense features.
        seconds: time for each measurement.

    Returns:
        `lookup_p50_us_b1` … `model_p99_us_b2048` and `inference_samples_per_s` (whole model, batch 2048); of the model
        only batches that take no more than `SCORED_BYTES`.
    """
    generator, device = Generator().manual_seed(0), tables.tables[0].device
    clock = Clock(device)
    sizes = [config.num_embeddings for config in tables.configs]
    latencies: dict[str, float] = {}
    was = model is not None and model.training
    if model is not None:
        model.eval()
    with torch.inference_mode():
        for batch in BATCHES:
            # several inputs in turn, so that not one set of rows stays in the cache
            ids = [zipf_ids(sizes, batch, generator).to(device) for _ in range(16)]
            dense = torch.rand(batch, num_dense, generator=generator).to(device)
            for name, call in _calls(model, tables, ids, dense).items():
                if name == "model" and model is not None and batch * model.sample_bytes() > SCORED_BYTES:
                    continue
                for at, value in percentiles(call, seconds, clock).items():
                    latencies[f"{name}_{at}_us_b{batch}"] = value
    if model is not None:
        model.train(was)
    if f"model_p50_us_b{BATCHES[-1]}" in latencies:
        latencies["inference_samples_per_s"] = BATCHES[-1] / latencies[f"model_p50_us_b{BATCHES[-1]}"] * 1e6
    return latencies
