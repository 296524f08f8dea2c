"""ROBE: lookups against the full table, the dense backward against the times that its paper reports for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.methods.hashing import draw_coefficients
from embpress.compressors.methods.robe import Robe
from embpress.dlrm.bench.baselines import NotMeasured
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import INPUTS, uniform
from embpress.dlrm.bench.roofline import robe_backward, robe_forward, robe_size

OPS = "robe_"
DIM, Z, RATIO = 128, 32, 1000
_MAX_CPU_BYTES = 1e9  # of an array; its gradient takes as much again

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


@dataclass(frozen=True)
class Size:
    """How large the cases are.

    Attributes:
        rows: of the table that is looked up in.
        batches: lookups of a call.
        shared_rows: table sizes of the backward (10000x sharing, Table 2).
        shared_batch: its lookups.
    """

    rows: int = 10_131_227
    batches: tuple[int, ...] = (10_240, 1_000_000)
    shared_rows: tuple[int, ...] = tuple(m * 10**6 for m in PAPER_MILLIONS)
    shared_batch: int = 10_240


FULL = Size()
QUICK = Size(10_007, (32, 64), (40_000, 80_000), 32)


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order."""
    return [
        *(lookup_case(batch) for batch in size.batches),
        *(backward_case(rows, ratio) for ratio in PAPER_MS for rows in size.shared_rows),
    ]


def paper_seconds(rows: int, ratio: int, bandwidth: float) -> float | None:
    """The published time of this case, scaled to another memory bandwidth; None where none was published."""
    if rows % 10**6 or rows // 10**6 not in PAPER_MILLIONS:
        return None
    published = PAPER_MS[ratio][PAPER_MILLIONS.index(rows // 10**6)]
    return None if published is None else published / 1e3 * PAPER_BANDWIDTH / bandwidth


def lookup_case(batch: int) -> Case:
    """Lookups without autograd against those of the full table."""

    def run(context: Context, row: Row) -> None:
        rows, generator = context.size.rows, context.generator()
        table = _table(rows, RATIO, context).eval()
        full = context.full_table(DIM)
        inputs = _ids(context, rows, batch, generator)
        row.setting = _setting(table, rows, RATIO, batch) | {"pass": "lookup"}
        with torch.no_grad():
            context.fill(
                row,
                lambda i: table.lookup(inputs[i % len(inputs)]),
                lambda i: full(inputs[i % len(inputs)].view(-1, 1)),
                work=robe_forward(table.memory.shape[0], DIM, Z, batch),
            )

    return Case(f"robe-lookup-B{batch}", "lookup", "nn.EmbeddingBag", run)


def backward_case(rows: int, ratio: int) -> Case:
    """The dense backward alone, the forward done before, against the paper's time scaled by memory bandwidth."""

    def run(context: Context, row: Row) -> None:
        batch, generator = context.size.shared_batch, context.generator()
        elements = robe_size(rows, DIM, Z, ratio)
        if context.device.type == "cpu" and 4 * elements > _MAX_CPU_BYTES:
            raise NotMeasured(f"its array of {4e-9 * elements:.1f} GB, and as much again, is for a GPU")
        table = _table(rows, ratio, context)
        outputs = [table.lookup(ids) for ids in _ids(context, rows, batch, generator)]
        grad = torch.randn(batch, DIM, generator=generator).to(context.device)
        row.setting = _setting(table, rows, ratio, batch) | {"pass": "backward, dense"}
        if context.peak is not None:
            row.baseline_s = paper_seconds(rows, ratio, context.peak.bandwidth)

        def ours(i: int) -> None:
            torch.autograd.grad(outputs[i % len(outputs)], table.memory, grad, retain_graph=True)

        context.fill(row, ours, work=robe_backward(elements, DIM, batch))

    size = f"{rows // 10**6}M" if rows >= 10**6 else str(rows)
    return Case(f"robe-back-{size}-{ratio}x", "backward", "paper, scaled", run)


def _ids(context: Context, rows: int, batch: int, generator: Generator) -> list[Tensor]:
    return [uniform(rows, batch, generator).to(context.device) for _ in range(INPUTS)]


def _table(rows: int, ratio: int, context: Context) -> Robe:
    """A table whose array is made on the device: some are gigabytes."""
    memory = nn.Parameter(torch.empty(robe_size(rows, DIM, Z, ratio), device=context.device).uniform_(-1, 1))
    coefficients = draw_coefficients((3,), context.generator())
    return Robe(rows, DIM, z=Z, memory=memory, coefficients=coefficients, device=context.device)


def _setting(table: Robe, rows: int, ratio: int, batch: int) -> dict[str, object]:
    return {
        "rows": rows, "dim": DIM, "z": Z, "ratio": ratio, "elements": table.memory.shape[0], "batch": batch,
    }  # fmt: skip
