"""A case of a benchmark, the row it becomes, and what the cases of one run share."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, nn

from embpress.compressors import InputError
from embpress.dlrm.bench.baselines import NotMeasured, full_table
from embpress.dlrm.bench.peaks import Peak, peak_of
from embpress.dlrm.bench.roofline import Work
from embpress.dlrm.bench.timing import Call, Gemm, Quartiles, Timer


@dataclass
class Row:
    """One case's result. Times are seconds of a call, medians over the repeats.

    Attributes:
        name, group, baseline: of the case.
        setting: rows, width, rank, batch and whatever else fixes the case.
        status: `ok`, `skipped` (the build or the machine lacks something) or `failed`.
        reason: why not ok; where ok, why the times are no graph replay's.
        how: how the times were taken.
        repeats: of each call.
        ours_s, ours_quartiles_s: of what is measured.
        baseline_s, baseline_quartiles_s: of what it is held against; alone the median where others have published it.
        ratio: baseline / ours, paired; above 1 ours is faster.
        difference_s: ours minus the baseline, paired.
        needed_flops: that one call cannot do without.
        of_peak: share of a matrix product's speed in the same repeats that the needed operations ran at.
        flops, moved_bytes: the work that was counted for the roofline.
        roofline_s: the shortest time of that work on this GPU; None where its peaks are not known.
        of_roofline: roofline / ours, 1 at best.
        limit_s: what ours should stay under, and `limit_on` the GPU that this is said of.
        limit: ours / baseline should be this at most, on a CPU.
        figures: other numbers by name; bytes end in `_bytes`.
    """

    name: str
    group: str
    baseline: str
    setting: dict[str, Any] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    how: str = ""
    repeats: int = 0
    ours_s: float | None = None
    ours_quartiles_s: Quartiles | None = None
    baseline_s: float | None = None
    baseline_quartiles_s: Quartiles | None = None
    ratio: Quartiles | None = None
    difference_s: Quartiles | None = None
    needed_flops: float | None = None
    of_peak: Quartiles | None = None
    flops: float | None = None
    moved_bytes: float | None = None
    roofline_s: float | None = None
    of_roofline: float | None = None
    limit_s: float | None = None
    limit_on: str = ""
    limit: float | None = None
    figures: dict[str, float] = field(default_factory=dict)


class Context:
    """What the cases of one run share: how large and how they are timed, and the one big thing held at a time.

    Args:
        size: the suite's own dataclass; `rows`, `dim` and `gemm` are used here.
        timer: how they are timed.
        device: of the tables, the baselines and their inputs.
    """

    def __init__(self, size: Any, timer: Timer, device: torch.device | str = "cpu") -> None:
        self.size, self.timer, self.device = size, timer, torch.device(device)
        gpu = self.device.type == "cuda"
        self.peak: Peak | None = peak_of(torch.cuda.get_device_name(self.device)) if gpu else None
        self._key: object = None
        self._held: Any = None

    def generator(self) -> Generator:
        """The same draws for every case, whichever cases run."""
        return Generator().manual_seed(0)

    def hold(self, key: object, make: Callable[[], Any]) -> Any:
        """What `make` gives, kept until another key is asked for: full tables are gigabytes, so one at a time."""
        if self._key != key:
            self._key = self._held = None
            self._held = make()
            self._key = key
        return self._held

    def full_table(self, dim: int | None = None) -> nn.EmbeddingBag:
        """`nn.EmbeddingBag` of the size's rows, of the size's width where nothing is said."""
        rows, dim = self.size.rows, dim or self.size.dim
        table: nn.EmbeddingBag = self.hold(
            ("full", rows, dim), lambda: full_table(rows, dim, self.generator(), self.device)
        )
        return table

    def fill(
        self,
        row: Row,
        ours: Call,
        baseline: Call | None = None,
        *,
        needed_flops: float | None = None,
        dtype: torch.dtype = torch.float32,
        work: Work | None = None,
        tf32: bool = False,
    ) -> None:
        """Times the calls and fills in the row; without a baseline the row's `baseline_s` may be there already.

        Args:
            row: to fill in.
            ours, baseline: what is timed.
            needed_flops: of one call of ours; a matrix product of this `dtype` is then timed too.
            dtype: of that product.
            work: of one call of ours, for the roofline.
            tf32: the roofline is that of the tensor cores.
        """
        calls = [ours] if baseline is None else [ours, baseline]
        gemm = None if needed_flops is None else Gemm(self.size.gemm, dtype, self.device)
        timed = self.timer.measure(calls if gemm is None else [*calls, gemm])
        times, seconds = timed.times, timed.times.of(0)
        row.how, row.reason, row.repeats = timed.how, timed.reason, len(times.repeats)
        row.ours_s, row.ours_quartiles_s = seconds.median, seconds
        if baseline is not None:
            row.baseline_quartiles_s = times.of(1)
            row.baseline_s = row.baseline_quartiles_s.median
            row.ratio, row.difference_s = times.ratio(1, 0), times.difference(0, 1)
        elif row.baseline_s is not None:
            row.ratio = Quartiles(*(row.baseline_s / s for s in (seconds.high, seconds.median, seconds.low)))
        if gemm is not None and needed_flops is not None:
            row.needed_flops = needed_flops
            row.figures["gemm_gflops"] = gemm.flops / times.of(len(calls)).median / 1e9
            row.of_peak = times.ratio(len(calls), 0, needed_flops / gemm.flops)
        if work is not None:
            self.count(row, work, tf32=tf32)

    def count(self, row: Row, work: Work, *, tf32: bool = False) -> None:
        """Fills in counted work, and its roofline where this device's peaks are known."""
        row.flops, row.moved_bytes = work.flops, work.moved
        if self.peak is not None:
            row.roofline_s = work.roofline(self.peak, tf32=tf32)
            row.of_roofline = None if row.ours_s is None else row.roofline_s / row.ours_s


@dataclass(frozen=True)
class Case:
    """One row to be: `run(context, row)` fills it in; `limit` is the row's, where it is measured on a CPU."""

    name: str
    group: str
    baseline: str
    run: Callable[[Context, Row], None]
    limit: float | None = None


def measured(case: Case, context: Context) -> Row:
    """Runs a case; what it lacks or fails at is said in the row, and the next case can go on."""
    limit = case.limit if context.device.type == "cpu" else None
    row = Row(case.name, case.group, case.baseline, limit=limit)
    try:
        with context.timer.stream():
            case.run(context, row)
    except NotMeasured as lack:
        row.status, row.reason = "skipped", str(lack)
    except InputError as error:
        row.status, row.reason = "failed", str(error).rstrip(".")
    except (RuntimeError, MemoryError, ValueError, TypeError, IndexError, OSError) as error:
        row.status, row.reason = "failed", traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    if context.device.type == "cuda":
        torch.cuda.empty_cache()  # a case's tables are gigabytes
    return row


def dtype_name(dtype: torch.dtype) -> str:
    """`float32`."""
    return str(dtype).removeprefix("torch.")
