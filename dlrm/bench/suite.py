"""The op benchmark: which cases there are, which were asked for, and the rows they become."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

import torch

from embpress.compressors import InputError
from embpress.compressors.errors import nearest
from embpress.dlrm.bench.case import Case, Context, Row, Size, measured
from embpress.dlrm.bench.memory import memory_case, terabyte_case
from embpress.dlrm.bench.step_cases import step_case
from embpress.dlrm.bench.suites.tt import BAG, HIT_RATES, TENSORLY, cache_case, latency_case, recompute_case, train_case
from embpress.kernels import ops

OPS = ("tt_embedding_bag", "tt_embedding_bag_backward")


def all_cases(size: Size) -> list[Case]:
    """Every case in its order; those that hold the same full table stand together."""
    return [
        *(train_case(f"train-R{rank}", rank=rank) for rank in (16, 32, 64)),
        train_case("zipf-R32", zipf=True),
        train_case(f"tensorly-B{size.small_batch}-R32", rival=TENSORLY, batch=size.small_batch),
        *(train_case(f"width-D{dim}", dim=dim) for dim in (16, 128)),
        *(train_case(f"batch-{batch}", batch=batch) for batch in size.batches),
        *(train_case(f"cores-{cores}", cores=cores) for cores in (2, 3, 4)),
        recompute_case("recompute-R32"),
        train_case("float64-R32", dtype=torch.float64),
        *(train_case(f"pool-{p}", pooling=p, batch=size.bags, rival=BAG) for p in (1, 10, 100)),
        *(cache_case(f"cache-{rate}", rate) for rate in HIT_RATES),
        *(latency_case(f"latency-B{batch}", batch) for batch in (1, 128)),
        *(memory_case(f"memory-1e{len(str(rows)) - 1}", rows) for rows in size.memory_rows),
        terabyte_case("terabyte"),
        *(
            step_case(f"dlrm-R{rank}-{ids}", rank, zipf=ids == "zipf")
            for ids in ("uniform", "zipf")
            for rank in (32, 64)
        ),
        step_case("dlrm-R32-zipf-cache", 32, zipf=True, cache=True),
    ]


class Named(Protocol):
    """A case of any benchmark."""

    @property
    def name(self) -> str:
        """What a user calls it."""


C = TypeVar("C", bound=Named)


def chosen(cases: Sequence[C], patterns: Sequence[str]) -> list[C]:
    """The cases whose names match one of the patterns (`*`, `?`, `[…]`), in their order; all without patterns.

    Raises:
        InputError: a pattern that fits no case.
    """
    names = [case.name for case in cases]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"no case {pattern!r}{nearest(pattern, names)}")
    return [case for case in cases if not patterns or any(fnmatchcase(case.name, p) for p in patterns)]


def run_cases(
    cases: Sequence[Case], context: Context, progress: Callable[[int, str], None] = lambda i, name: None
) -> Iterator[Row]:
    """A row a case, as each is done; `progress` is told the number and name of the case that starts."""
    for i, case in enumerate(cases, 1):
        progress(i, case.name)
        yield measured(case, context)


def backends(device: str = "cpu") -> dict[str, str]:
    """Which implementation of TT-Rec's ops answers on a device."""
    return {op: ops.backend(op, torch.device(device).type) for op in OPS}
