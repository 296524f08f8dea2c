"""A case of the op benchmark, the row it becomes, and what the cases of one run share."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, nn

from embpress.dlrm.bench.baselines import NotMeasured, full_table
from embpress.dlrm.bench.timing import Call, Gemm, Quartiles, Times, paired
from embpress.dlrm.measure.clock import Clock


@dataclass(frozen=True)
class Size:
    """How large the cases are.

    Attributes:
        rows: of the one table that most cases look up in.
        dim: its width.
        batch: lookups in a step.
        bags: bags where several lookups are pooled.
        batches: batch sizes of the series.
        small_batch: batch of a rival that is too slow for more.
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
    memory_rows: tuple[int, ...] = (10**5, 10**6, 10**7, 10**8, 10**9)
    scale: float = 1.0
    samples: int = 2048
    gemm: int = 2048


# for tests: every case runs, its numbers mean nothing
QUICK = Size(
    rows=10_007,
    batch=64,
    bags=16,
    batches=(16, 128),
    small_batch=32,
    memory_rows=(10**5, 10**9),
    scale=1e-3,
    samples=32,
    gemm=128,
)


@dataclass
class Row:
    """One case's result. Times are seconds, medians over the repeats.

    Attributes:
        name, group, rival: of the case.
        setting: rows, width, rank, batch and whatever else fixes the case.
        status: `ok`, `skipped` (the build or the machine lacks something) or `failed`.
        reason: why not ok.
        repeats: paired repeats.
        tt_s, rival_s: of one call.
        rival_over_tt: rival's time / TT-Rec's, paired; above 1 TT-Rec is faster.
        difference_s: TT-Rec's time minus the rival's, paired.
        needed_flops: of one call: distinct ids × 3 × forward (backward is twice the forward).
        of_peak: share of the matrix product's speed in the same repeats that the needed operations ran at.
        figures: other numbers by name; bytes end in `_bytes`.
    """

    name: str
    group: str
    rival: str
    setting: dict[str, Any] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    repeats: int = 0
    tt_s: float | None = None
    rival_s: float | None = None
    rival_over_tt: Quartiles | None = None
    difference_s: Quartiles | None = None
    needed_flops: float | None = None
    of_peak: Quartiles | None = None
    figures: dict[str, float] = field(default_factory=dict)

    def take(self, times: Times, gemm: Gemm | None = None, needed_flops: float | None = None) -> None:
        """Fills in times of (TT-Rec, rival) or (TT-Rec, rival, matrix product)."""
        self.repeats = len(times.repeats)
        self.tt_s, self.rival_s = times.median(0), times.median(1)
        self.rival_over_tt, self.difference_s = times.ratio(1, 0), times.difference(0, 1)
        self.needed_flops = needed_flops
        if gemm is not None:
            self.figures["gemm_gflops"] = gemm.flops / times.median(2) / 1e9
            if needed_flops is not None:
                self.of_peak = times.ratio(2, 0, needed_flops / gemm.flops)


class Context:
    """What the cases of one run share: how large and how long, and the one big thing that is held at a time.

    Args:
        size: how large the cases are.
        seconds: time for the repeats of a case.
        least: repeats at least.
        block: as in `paired`.
        device: of the tables, the rivals and their inputs.
    """

    def __init__(
        self, size: Size, seconds: float, least: int = 5, block: float = 0.01, device: torch.device | str = "cpu"
    ) -> None:
        self.size, self.seconds, self.least, self.block = size, seconds, least, block
        self.device = torch.device(device)
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

    def full_table(self) -> nn.EmbeddingBag:
        """`nn.EmbeddingBag` of the size's rows and width."""
        rows, dim = self.size.rows, self.size.dim
        made: nn.EmbeddingBag = self.hold(
            ("full", rows, dim), lambda: full_table(rows, dim, self.generator(), self.device)
        )
        return made

    def paired(self, calls: Sequence[Call]) -> Times:
        """`paired` with what this run has settled."""
        return paired(calls, self.seconds, Clock(self.device), least=self.least, block=self.block)


@dataclass(frozen=True)
class Case:
    """One row to be: `run(context, row)` fills it in."""

    name: str
    group: str
    rival: str
    run: Callable[[Context, Row], None]


def measured(case: Case, context: Context) -> Row:
    """Runs a case; what it lacks or fails at is said in the row, and the next case can go on."""
    row = Row(case.name, case.group, case.rival)
    try:
        case.run(context, row)
    except NotMeasured as lack:
        row.status, row.reason = "skipped", str(lack)
    except (RuntimeError, MemoryError, ValueError, TypeError, IndexError, OSError) as error:
        row.status, row.reason = "failed", traceback.format_exception_only(error)[-1].strip()
    return row


def dtype_name(dtype: torch.dtype) -> str:
    """`float32`."""
    return str(dtype).removeprefix("torch.")
