"""GPU cases of ROBE: lookups against the full table, the dense backward against the published times."""

from __future__ import annotations

import torch
from torch import nn

from embpress.compressors.methods.hashing import draw_coefficients
from embpress.compressors.methods.robe import Robe
from embpress.dlrm.bench.case_cuda import CudaCase, CudaContext, CudaRow
from embpress.dlrm.bench.roofline import robe_backward, robe_forward
from embpress.dlrm.bench.suites.roofline import ROBE_DIM, ROBE_RATIO, ROBE_Z, robe_size

# Table 2 (b) of "10000x sharing" (Desai and Shrivastava): milliseconds of the backward with dense gradients, by
# compression ratio, for tables of 4, 8, … 256 million rows of width 128, batch 10,240. Left out: 256 million rows at
# ratio 10, whose 14.34 ms are those of ratio 100, a fifth of what 128 million rows take.
PAPER_MS: dict[int, tuple[float | None, ...]] = {
    10: (2.55, 4.81, 9.15, 17.81, 35.10, 69.73, None),
    100: (0.59, 0.83, 1.27, 2.13, 3.85, 7.42, 14.34),
    1000: (0.35, 0.37, 0.41, 0.54, 0.73, 1.08, 1.78),
    10000: (0.35, 0.35, 0.34, 0.35, 0.36, 0.40, 0.47),
}
PAPER_MILLIONS = (4, 8, 16, 32, 64, 128, 256)
# The table says "a single GPU"; the one GPU that the paper names for its own runs is a Quadro RTX 8000: 672 GB/s GDDR6
PAPER_BANDWIDTH = 672e9


def paper_seconds(rows: int, ratio: int, bandwidth: float) -> float | None:
    """The published time of this case, scaled to another memory bandwidth; None where none was published."""
    if rows % 10**6 or rows // 10**6 not in PAPER_MILLIONS:
        return None
    published = PAPER_MS[ratio][PAPER_MILLIONS.index(rows // 10**6)]
    return None if published is None else published / 1e3 * PAPER_BANDWIDTH / bandwidth


def lookup_case(batch: int) -> CudaCase:
    """Lookups without autograd against those of the full table."""

    def run(context: CudaContext, row: CudaRow) -> None:
        rows, generator = context.size.rows, context.generator()
        table = _table(rows, ROBE_RATIO, context).eval()
        full = context.full_table(rows, ROBE_DIM).eval()
        inputs = context.ids(rows, batch, generator)
        row.setting = _setting(table, rows, ROBE_RATIO, batch) | {"pass": "lookup"}
        with torch.no_grad():
            context.fill(
                row,
                lambda i: table.lookup(inputs[i % len(inputs)].squeeze(1)),
                lambda i: full(inputs[i % len(inputs)]),
                robe_forward(table.memory.shape[0], ROBE_DIM, ROBE_Z, batch),
            )

    return CudaCase(f"robe-lookup-B{batch}", "robe lookup", "EmbeddingBag", run)


def backward_case(rows: int, ratio: int) -> CudaCase:
    """The dense backward alone, the forward done before, against the paper's time scaled by memory bandwidth."""

    def run(context: CudaContext, row: CudaRow) -> None:
        batch, generator = context.size.shared_batch, context.generator()
        table = _table(rows, ratio, context)
        outputs = [table.lookup(ids.squeeze(1)) for ids in context.ids(rows, batch, generator)]
        grad = torch.randn(batch, ROBE_DIM, generator=generator).to(context.device)
        row.setting = _setting(table, rows, ratio, batch) | {"pass": "backward, dense"}
        if context.peak is not None:
            row.rival_s = paper_seconds(rows, ratio, context.peak.bandwidth)

        def ours(i: int) -> None:
            torch.autograd.grad(outputs[i % len(outputs)], table.memory, grad, retain_graph=True)

        context.fill(row, ours, None, robe_backward(table.memory.shape[0], ROBE_DIM, batch))

    size = f"{rows // 10**6}M" if rows >= 10**6 else str(rows)
    return CudaCase(f"robe-back-{size}-{ratio}x", "robe backward", "paper, scaled", run)


def _table(rows: int, ratio: int, context: CudaContext) -> Robe:
    """A table whose array is made on the device: some are gigabytes."""
    memory = nn.Parameter(torch.empty(robe_size(rows, ROBE_DIM, ratio), device=context.device).uniform_(-1, 1))
    coefficients = draw_coefficients((3,), context.generator(), context.device)
    return Robe(rows, ROBE_DIM, z=ROBE_Z, memory=memory, coefficients=coefficients, device=context.device)


def _setting(table: Robe, rows: int, ratio: int, batch: int) -> dict[str, object]:
    return {
        "rows": rows, "dim": ROBE_DIM, "z": ROBE_Z, "ratio": ratio, "elements": table.memory.shape[0], "batch": batch,
    }  # fmt: skip
