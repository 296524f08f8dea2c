"""A case of the GPU benchmark, the row it becomes, and what the cases of one run share."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from embpress.dlrm.bench.peaks import Peak, peak_of
from embpress.dlrm.bench.replay import Timer
from embpress.dlrm.bench.roofline import Work
from embpress.dlrm.bench.timing import Call, Quartiles, quartiles

INPUTS = 16  # sets of ids in turn


@dataclass(frozen=True)
class CudaSize:
    """How large the cases are.

    Attributes:
        rows: of the table that most cases look up in.
        tt_batches, robe_batches: lookups of a call.
        cache_batch: lookups of a call where rows are cached.
        shared_rows: table sizes of ROBE's backward (10000x sharing, Table 2).
        shared_batch: its lookups.
        scale: share of Criteo-Kaggle's table sizes in whole models.
        samples: batch of whole models.
    """

    rows: int = 10_131_227
    tt_batches: tuple[int, ...] = (10_240, 65_536)
    robe_batches: tuple[int, ...] = (10_240, 1_000_000)
    cache_batch: int = 8192
    shared_rows: tuple[int, ...] = tuple(m * 10**6 for m in (4, 8, 16, 32, 64, 128, 256))
    shared_batch: int = 10_240
    scale: float = 1.0
    samples: int = 2048


# for tests: every case runs, its numbers mean nothing
QUICK_CUDA = CudaSize(10_007, (32, 64), (32, 64), 64, (40_000, 80_000), 32, 1e-3, 16)


@dataclass
class CudaRow:
    """One case's result; times are seconds of a call, medians over the repeats.

    Attributes:
        name, group, rival: of the case.
        setting: whatever fixes the case.
        status: `ok`, `skipped` or `failed`.
        reason: why not ok; where ok, why the times are no graph replay's.
        how: how the times were taken.
        repeats: of each call.
        ours_s, rival_s: times; the rival's may be one that others have published.
        ours_quartiles_s: low, median and high of ours.
        rival_over_ours: above 1 ours is faster; of repeats in pairs, or of the published time.
        flops, moved_bytes: the work that was counted for ours.
        floor_s: the least time of that work on this GPU; None where its peaks are not known.
        of_floor: floor / ours, 1 at best.
        limit_s: what ours should stay under, and `limit_on` the GPU that this is said of.
    """

    name: str
    group: str
    rival: str
    setting: dict[str, Any] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    how: str = ""
    repeats: int = 0
    ours_s: float | None = None
    ours_quartiles_s: tuple[float, float, float] | None = None
    rival_s: float | None = None
    rival_over_ours: float | None = None
    flops: float | None = None
    moved_bytes: float | None = None
    floor_s: float | None = None
    of_floor: float | None = None
    limit_s: float | None = None
    limit_on: str = ""


class CudaContext:
    """What the cases of one run share.

    Args:
        device: `cuda`, or `cpu` to try the cases.
        size: how large they are.
        timer: how they are timed.
    """

    def __init__(self, device: torch.device | str, size: CudaSize, timer: Timer) -> None:
        self.device, self.size, self.timer = torch.device(device), size, timer
        gpu = self.device.type == "cuda"
        self.peak: Peak | None = peak_of(torch.cuda.get_device_name(self.device)) if gpu else None

    def generator(self) -> Generator:
        """The same draws for every case, whichever cases run."""
        return Generator().manual_seed(0)

    def ids(self, n: int, count: int, generator: Generator) -> list[Tensor]:
        """Sets of uniform ids `(count, 1)`, one a bag, on the device."""
        return [torch.randint(n, (count, 1), generator=generator).to(self.device) for _ in range(INPUTS)]

    def full_table(self, n: int, dim: int) -> nn.EmbeddingBag:
        """`nn.EmbeddingBag` with sums and sparse gradients, its values drawn on the device."""
        weight = torch.empty(n, dim, device=self.device).uniform_(-1, 1)
        return nn.EmbeddingBag(n, dim, mode="sum", sparse=True, _weight=weight)

    def fill(self, row: CudaRow, ours: Call, rival: Call | None, work: Work | None, *, tf32: bool = False) -> None:
        """Times the calls and fills in the row; without a rival its `rival_s` may be there already.

        `tf32`: the floor is that of the tensor cores.
        """
        timed = self.timer.measure([ours] if rival is None else [ours, rival])
        own = _quartiles(timed.times.repeats, 0)
        row.how, row.reason, row.repeats = timed.how, timed.reason, len(timed.times.repeats)
        row.ours_s, row.ours_quartiles_s = own.median, (own.low, own.median, own.high)
        if rival is not None:
            row.rival_s, row.rival_over_ours = timed.times.median(1), timed.times.ratio(1, 0).median
        elif row.rival_s is not None:
            row.rival_over_ours = row.rival_s / own.median
        if work is not None:
            row.flops, row.moved_bytes = work.flops, work.moved
            if self.peak is not None:
                row.floor_s = work.floor(self.peak, tf32=tf32)
                row.of_floor = row.floor_s / own.median


@dataclass(frozen=True)
class CudaCase:
    """One row to be: `run(context, row)` fills it in."""

    name: str
    group: str
    rival: str
    run: Callable[[CudaContext, CudaRow], None]


def measured_cuda(case: CudaCase, context: CudaContext) -> CudaRow:
    """Runs a case; what it fails at is said in the row, and the next case can go on."""
    row = CudaRow(case.name, case.group, case.rival)
    try:
        with context.timer.stream():
            case.run(context, row)
    except (RuntimeError, MemoryError, ValueError, TypeError, IndexError, OSError) as error:
        row.status, row.reason = "failed", traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    if context.device.type == "cuda":
        torch.cuda.empty_cache()  # a case's tables are gigabytes
    return row


def _quartiles(repeats: Sequence[tuple[float, ...]], which: int) -> Quartiles:
    return quartiles([times[which] for times in repeats])
