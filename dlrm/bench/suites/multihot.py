"""Bags of several weighted ids in one table: lookups and steps of every method against `nn.EmbeddingBag`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embpress.compressors import InputError, parse_all
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import INPUTS, LEARNING_RATE, one_table, uniform, updating
from embpress.dlrm.bench.suite import knob
from embpress.dlrm.bench.timing import Call

BAG = "nn.EmbeddingBag"
METHODS = (
    "full,hash:ratio=16,qr:ratio=16,robe:ratio=16,tt,mlet,lowrank:ratio=16,md:ratio=16,unified:ratio=16,"
    "sketch:ratio=16,top:ratio=16,cce:ratio=16,full+int8,full+int4"
)


@dataclass(frozen=True)
class Size:
    """How large the cases are; `pooling` are ids a bag."""

    methods: str = knob(METHODS, "Methods with their knobs, separated by commas.")
    rows: int = knob(1_000_000, "Rows of the table.")
    dim: int = knob(64, "Width of a row.")
    bags: int = knob(1024, "Bags of a call.")
    pooling: tuple[int, ...] = (1, 10, 100)


FULL = Size()
QUICK = Size(rows=2003, dim=32, bags=8, pooling=(1, 10))

Inputs = list[tuple[Tensor, Tensor, Tensor]]  # ids, offsets, weights


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order."""
    if min(size.rows, size.dim, size.bags) < 1:
        raise InputError("--rows, --dim and --bags must be at least 1")
    return [
        make(str(spec), pooling)
        for make in (_lookup_case, _step_case)
        for pooling in size.pooling
        for spec in parse_all(size.methods)
        if make is _lookup_case or not spec.modifiers  # which are for serving
    ]


def _lookup_case(spec: str, pooling: int) -> Case:
    def run(context: Context, row: Row) -> None:
        table = one_table(spec, context.size.rows, context.size.dim, context)[0].fold()
        full, inputs = context.full_table(), _inputs(context, pooling)
        row.setting = _setting(context, spec, pooling) | {"pass": "lookup"}
        with torch.no_grad():
            context.fill(row, _looked_up(table, inputs), _looked_up(full, inputs))

    return Case(f"{spec}-P{pooling}", f"lookup, pooling {pooling}", BAG, run)


def _step_case(spec: str, pooling: int) -> Case:
    def run(context: Context, row: Row) -> None:
        size = context.size
        table, optimizers = one_table(spec, size.rows, size.dim, context)
        full, inputs = context.full_table(), _inputs(context, pooling)
        row.setting = _setting(context, spec, pooling) | {"pass": "forward + backward + SGD"}
        grad = torch.randn(size.bags, size.dim, generator=context.generator()).to(context.device)
        theirs = [torch.optim.SGD(full.parameters(), lr=LEARNING_RATE)]
        context.fill(row, updating(table, optimizers, inputs, grad), updating(full, theirs, inputs, grad))

    return Case(f"{spec}-step-P{pooling}", f"step, pooling {pooling}", BAG, run)


def _inputs(context: Context, pooling: int) -> Inputs:
    size, generator, count = context.size, context.generator(), context.size.bags * pooling
    offsets = torch.arange(0, count, pooling).to(context.device)
    return [
        (
            uniform(size.rows, count, generator).to(context.device),
            offsets,
            torch.rand(count, generator=generator).to(context.device),
        )
        for _ in range(INPUTS)
    ]


def _setting(context: Context, spec: str, pooling: int) -> dict[str, object]:
    size = context.size
    return {
        "rows": size.rows, "dim": size.dim, "bags": size.bags, "pooling": pooling, "ids": "uniform", "weights": True,
        "method": spec,
    }  # fmt: skip


def _looked_up(table: nn.Module, inputs: Inputs) -> Call:
    return lambda i: table(*inputs[i % len(inputs)])
