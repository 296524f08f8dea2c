"""ROBE: lookups and training steps against full tables, the dense backward against its paper's times on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.methods.robe import Robe
from embpress.dlrm.bench import fbgemm
from embpress.dlrm.bench.baselines import NotMeasured, full_table
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import INPUTS, LEARNING_RATE, robe_table, sets_of_ids, uniform, updating
from embpress.dlrm.bench.roofline import robe_backward, robe_forward, robe_size
from embpress.dlrm.bench.sharing_paper import BATCH, BY_RATIO, DENSE, MILLIONS, dense_seconds
from embpress.dlrm.bench.timing import Call
from embpress.dlrm.training.optim import make_optimizers

OPS = "robe_"
BAG = "nn.EmbeddingBag"
DIM, Z, RATIO = 128, 32, 1000
_MAX_CPU_BYTES = 1e9  # of an array; its gradient takes as much again


@dataclass(frozen=True)
class Size:
    """How large the cases are.

    Attributes:
        rows: of the table that is looked up in.
        batches: lookups of a call.
        shared_rows: table sizes of the backward (10000x sharing, Table 2).
        shared_batch: its lookups.
        small_rows: of the table that a CPU trains.
    """

    rows: int = 10_131_227
    batches: tuple[int, ...] = (BATCH, 1_000_000)
    shared_rows: tuple[int, ...] = tuple(m * 10**6 for m in MILLIONS)
    shared_batch: int = BATCH
    small_rows: int = 4_000_000


FULL = Size()
QUICK = Size(10_007, (32, 64), (40_000, 80_000), 32, 4001)


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order."""
    return [
        *(lookup_case(batch) for batch in size.batches),
        *(cpu_cases() if device.type == "cpu" else []),
        *(backward_case(rows, ratio) for ratio in BY_RATIO[DENSE] for rows in size.shared_rows),
    ]


def cpu_cases() -> list[Case]:
    """One table against a full one of two gigabytes: lookups, and steps with SGD."""
    return [
        Case("lookup-2GB", "2 GB", BAG, _small_lookup, limit=0.8),
        Case("step-2GB", "2 GB", BAG, _small_step, limit=0.5),
        Case("step-2GB-TBE", "2 GB", "FBGEMM's TBE", _small_step_tbe, limit=1.2),
    ]


def _small_lookup(context: Context, row: Row) -> None:
    rows, batch = context.size.small_rows, context.size.shared_batch
    table, full, inputs = _table(rows, RATIO, context).eval(), _small_full(context), _small_ids(context)
    row.setting = _setting(table, rows, RATIO, batch) | {"ids": "uniform", "pass": "lookup"}
    with torch.no_grad():
        context.fill(
            row,
            lambda i: table.lookup(inputs[i % len(inputs)]),
            lambda i: full(inputs[i % len(inputs)].view(-1, 1)),
            work=robe_forward(table.memory.shape[0], DIM, Z, batch),
        )


def _small_step(context: Context, row: Row) -> None:
    full, inputs = _small_full(context), [(ids.view(-1, 1),) for ids in _small_ids(context)]
    optimizers = [torch.optim.SGD(full.parameters(), lr=LEARNING_RATE)]
    grad = _small_grad(context)
    context.fill(row, _ours(context, row, grad), updating(full, optimizers, inputs, grad))


def _small_step_tbe(context: Context, row: Row) -> None:
    rows, batch = context.size.small_rows, context.size.shared_batch
    tbe = context.hold(("TBE", rows), lambda: fbgemm.trained(rows, DIM, LEARNING_RATE, context.device))
    offsets, grad = torch.arange(batch + 1), _small_grad(context)
    inputs = [(ids, offsets) for ids in _small_ids(context)]
    context.fill(row, _ours(context, row, grad), updating(tbe, [], inputs, grad))


def _ours(context: Context, row: Row, grad: Tensor) -> Call:
    """Forward, backward and SGD of a table as it is trained here."""
    rows = context.size.small_rows
    table = _table(rows, RATIO, context)
    row.setting = _setting(table, rows, RATIO, context.size.shared_batch)
    row.setting |= {"ids": "uniform", "pass": "forward + backward + SGD"}
    inputs = [(ids.view(-1, 1),) for ids in _small_ids(context)]
    return updating(table, make_optimizers(table, "sgd", LEARNING_RATE), inputs, grad)


def _small_full(context: Context) -> nn.EmbeddingBag:
    rows = context.size.small_rows
    full: nn.EmbeddingBag = context.hold(
        ("full", rows, DIM), lambda: full_table(rows, DIM, context.generator(), context.device)
    )
    return full


def _small_ids(context: Context) -> list[Tensor]:
    rows, batch, generator = context.size.small_rows, context.size.shared_batch, context.generator()
    return [uniform(rows, batch, generator) for _ in range(sets_of_ids(rows, DIM, batch))]


def _small_grad(context: Context) -> Tensor:
    return torch.randn(context.size.shared_batch, DIM, generator=context.generator())


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

    return Case(f"robe-lookup-B{batch}", "lookup", BAG, run)


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
            row.baseline_s = dense_seconds(rows, ratio, context.peak.bandwidth)

        def ours(i: int) -> None:
            torch.autograd.grad(outputs[i % len(outputs)], table.memory, grad, retain_graph=True)

        context.fill(row, ours, work=robe_backward(elements, DIM, batch))

    size = f"{rows // 10**6}M" if rows >= 10**6 else str(rows)
    return Case(f"robe-back-{size}-{ratio}x", "backward", "paper, scaled", run)


def _ids(context: Context, rows: int, batch: int, generator: Generator) -> list[Tensor]:
    return [uniform(rows, batch, generator).to(context.device) for _ in range(INPUTS)]


def _table(rows: int, ratio: int, context: Context) -> Robe:
    return robe_table(rows, DIM, Z, robe_size(rows, DIM, Z, ratio), context)


def _setting(table: Robe, rows: int, ratio: int, batch: int) -> dict[str, object]:
    return {
        "rows": rows, "dim": DIM, "z": Z, "ratio": ratio, "elements": table.memory.shape[0], "batch": batch,
    }  # fmt: skip
