"""The GPU benchmark: which cases there are, and the rows they become."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from embpress.dlrm.bench import robe as bench_cuda_robe
from embpress.dlrm.bench import tt_cuda as bench_cuda_tt
from embpress.dlrm.bench.case_cuda import CudaCase, CudaContext, CudaRow, CudaSize, measured_cuda
from embpress.kernels import ops

# microseconds on an H200 that a training step of 10,131,227 rows at rank 32 should stay under, by its batch
LIMITS_US = {10_240: 100.0, 65_536: 350.0}


def cuda_cases(size: CudaSize) -> list[CudaCase]:
    """Every case in its order."""
    return [
        *(bench_cuda_tt.train_case(b, LIMITS_US[b] / 1e6 if b in LIMITS_US else None) for b in size.tt_batches),
        *(bench_cuda_tt.train_case(max(size.tt_batches), math=math) for math in ops.MATH if math != "fp32"),
        *(bench_cuda_tt.cache_case(90, counting) for counting in (False, True)),
        bench_cuda_tt.step_case(),
        *(bench_cuda_robe.lookup_case(batch) for batch in size.robe_batches),
        *(
            bench_cuda_robe.backward_case(rows, ratio)
            for ratio in bench_cuda_robe.PAPER_MS
            for rows in size.shared_rows
        ),
    ]


def run_cuda_cases(
    cases: Sequence[CudaCase], context: CudaContext, progress: Callable[[int, str], None] = lambda i, name: None
) -> Iterator[CudaRow]:
    """A row a case, as each is done; `progress` is told the number and name of the case that starts."""
    for i, case in enumerate(cases, 1):
        progress(i, case.name)
        yield measured_cuda(case, context)


def backends(device: torch.device) -> dict[str, str]:
    """Which implementation of each op answers on the device."""
    return {op: ops.backend(op, device.type) for op in ops.names()}
