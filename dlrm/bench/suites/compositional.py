"""The hashing trick and quotient-remainder at a thousandth of the rows: lookups and steps against the full table."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import LEARNING_RATE, one_table, sets_of_ids, uniform, updating
from embpress.dlrm.bench.suite import knob

OPS = "compositional_"
BAG = "nn.EmbeddingBag"
LOOKUP_LIMIT, STEP_LIMIT = 1.0, 0.6


@dataclass(frozen=True)
class Size:
    """How large the cases are."""

    rows: int = knob(10_000_000, "Rows of the full table.")
    dim: int = knob(64, "Width of a row.")
    batch: int = knob(8192, "Lookups of a call.")
    share: int = knob(1000, "The hashed table has so many times fewer rows, QR's remainder table so many rows.")


FULL = Size()
QUICK = Size(4001, 16, 32, 100)


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order."""
    specs = {"hash": f"hash:k={-(-size.rows // size.share)}", "qr": f"qr:c={size.share}:op=mult"}
    lookups = [_lookup(name, spec) for name, spec in specs.items()]
    return lookups + [_step(name, spec) for name, spec in specs.items()]


def _lookup(name: str, spec: str) -> Case:
    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        table, full = one_table(spec, size.rows, size.dim, context)[0].fold(), context.full_table()
        inputs = [
            uniform(size.rows, size.batch, generator).to(context.device)
            for _ in range(sets_of_ids(size.rows, size.dim, size.batch))
        ]
        row.setting = _setting(size, spec) | {"pass": "lookup"}
        with torch.no_grad():
            context.fill(
                row,
                lambda i: table.lookup(inputs[i % len(inputs)]),
                lambda i: full(inputs[i % len(inputs)].view(-1, 1)),
            )

    return Case(f"{name}-lookup", "lookup", BAG, run, LOOKUP_LIMIT)


def _step(name: str, spec: str) -> Case:
    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        table, optimizers = one_table(spec, size.rows, size.dim, context)
        full = context.full_table()
        inputs = [
            (uniform(size.rows, size.batch, generator).to(context.device).view(-1, 1),)
            for _ in range(sets_of_ids(size.rows, size.dim, size.batch))
        ]
        grad = torch.randn(size.batch, size.dim, generator=generator).to(context.device)
        row.setting = _setting(size, spec) | {"pass": "forward + backward + SGD"}
        theirs = [torch.optim.SGD(full.parameters(), lr=LEARNING_RATE)]
        context.fill(row, updating(table, optimizers, inputs, grad), updating(full, theirs, inputs, grad))

    return Case(f"{name}-step", "step", BAG, run, STEP_LIMIT)


def _setting(size: Size, spec: str) -> dict[str, object]:
    return {"rows": size.rows, "dim": size.dim, "batch": size.batch, "ids": "uniform", "method": spec}
