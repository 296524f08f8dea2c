"""Bags of several weighted ids in one table: lookups and steps of every method against `nn.EmbeddingBag`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from embpress.compressors import Compressor, InputError, parse_all
from embpress.dlrm.bench.baselines import full_table
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import LEARNING_RATE, one_table, sets_of_ids, uniform, updating
from embpress.dlrm.bench.suite import knob
from embpress.dlrm.bench.timing import Call

BAG = "nn.EmbeddingBag"
METHODS = (
    "full,hash:ratio=16,qr:ratio=16,robe:ratio=16,tt,mlet:k=128,lowrank:ratio=16,md:ratio=16,unified:ratio=16,"
    "top:ratio=16,cce:ratio=16,full+int4"
)  # not sketch, whose lookup reads a share of all its rows


@dataclass(frozen=True)
class Size:
    """How large the cases are; `pooling` are ids a bag."""

    methods: str = knob(METHODS, "Methods with their knobs, separated by commas.")
    rows: int = knob(1_000_000, "Rows of the table.")
    dim: int = knob(64, "Width of a row.")
    bags: int = knob(1024, "Bags of a call.")
    pooling: tuple[int, ...] = (1, 10, 100)


FULL = Size()
QUICK = Size(rows=2003, dim=32, bags=8, pooling=(3,))


@dataclass
class Held:
    """A method's table as it is trained and as it is served, and the full one."""

    table: Compressor
    optimizers: list[Optimizer]
    folded: Compressor
    full: nn.EmbeddingBag


Inputs = list[tuple[Tensor, Tensor, Tensor]]  # ids, offsets, weights


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order."""
    if min(size.rows, size.dim, size.bags) < 1:
        raise InputError("--rows, --dim and --bags must be at least 1")
    made = []
    for spec in parse_all(size.methods):  # one after another: each holds its table
        made += [_lookup_case(str(spec), pooling) for pooling in size.pooling]
        made += [_step_case(str(spec), pooling) for pooling in size.pooling if not spec.modifiers]  # made for serving
    return made


def _lookup_case(spec: str, pooling: int) -> Case:
    def run(context: Context, row: Row) -> None:
        held, inputs = _held(spec, context), _inputs(context, pooling)
        row.setting = _setting(context, spec, pooling) | {"pass": "lookup"}
        with torch.no_grad():
            context.fill(row, _looked_up(held.folded, inputs), _looked_up(held.full, inputs))

    return Case(f"{spec}-P{pooling}", f"lookup, pooling {pooling}", BAG, run)


def _step_case(spec: str, pooling: int) -> Case:
    def run(context: Context, row: Row) -> None:
        size = context.size
        held, inputs = _held(spec, context), _inputs(context, pooling)
        row.setting = _setting(context, spec, pooling) | {"pass": "forward + backward + SGD"}
        grad = torch.randn(size.bags, size.dim, generator=context.generator()).to(context.device)
        theirs = [torch.optim.SGD(held.full.parameters(), lr=LEARNING_RATE)]
        ours = updating(held.table, held.optimizers, inputs, grad)
        context.fill(row, ours, updating(held.full, theirs, inputs, grad))

    return Case(f"{spec}-step-P{pooling}", f"step, pooling {pooling}", BAG, run)


def _held(spec: str, context: Context) -> Held:
    def make() -> Held:
        rows, dim = context.size.rows, context.size.dim
        table, optimizers = one_table(spec, rows, dim, context)
        return Held(table, optimizers, table.fold(), full_table(rows, dim, context.generator(), context.device))

    held: Held = context.hold((spec, context.size), make)
    return held


def _inputs(context: Context, pooling: int) -> Inputs:
    size, generator, count = context.size, context.generator(), context.size.bags * pooling
    offsets = torch.arange(0, count, pooling).to(context.device)
    return [
        (
            uniform(size.rows, count, generator).to(context.device),
            offsets,
            torch.rand(count, generator=generator).to(context.device),
        )
        for _ in range(sets_of_ids(size.rows, size.dim, count))
    ]


def _setting(context: Context, spec: str, pooling: int) -> dict[str, object]:
    size = context.size
    return {
        "rows": size.rows, "dim": size.dim, "bags": size.bags, "pooling": pooling, "ids": "uniform", "weights": True,
        "method": spec,
    }  # fmt: skip


def _looked_up(table: nn.Module, inputs: Inputs) -> Call:
    return lambda i: table(*inputs[i % len(inputs)])
