"""Full tables in 8 and 4 bits: lookups against float32, FBGEMM's row-wise tables and torch's quantized bags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embpress.compressors import Compressor, create
from embpress.dlrm.bench import fbgemm
from embpress.dlrm.bench.baselines import NotMeasured, full_table
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import sets_of_ids, uniform
from embpress.dlrm.bench.suite import knob

OPS = "coded_rows"
BITS = (8, 4)
FLOAT, FBGEMM, TORCH = "nn.EmbeddingBag", "FBGEMM's TBE", "torch, by row"
LIMITS = {FLOAT: 0.6, FBGEMM: 1.0, TORCH: 1.0}


@dataclass(frozen=True)
class Size:
    """How large the cases are."""

    rows: int = knob(4_000_000, "Rows of the table.")
    dim: int = knob(128, "Width of a row.")
    batch: int = knob(10_240, "Lookups of a call.")


FULL = Size()
QUICK = Size(1009, 16, 32)


@dataclass
class Held:
    """The table in float32, and others like it in 8 and 4 bits with a range a column."""

    full: nn.EmbeddingBag
    coded: dict[int, Compressor]


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order."""
    return [_case(bits, against) for bits in BITS for against in LIMITS]


def coded_table(rows: int, dim: int, bits: int, context: Context) -> Compressor:
    """A table to serve in so many bits, drawn and then put into codes.

    Its ranges are those that training through codes starts from, made from some of its rows: a fit to all of them takes
    minutes, and a lookup as long as with these.
    """
    table = create(f"full+int{bits}:train=true", rows, dim, generator=context.generator(), device=context.device)
    return table.fold()


def _case(bits: int, against: str) -> Case:
    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        held = context.hold(("codes", size.rows, size.dim), lambda: _held(context))
        inputs = [
            uniform(size.rows, size.batch, generator).to(context.device)
            for _ in range(sets_of_ids(size.rows, size.dim, size.batch))
        ]
        row.setting = {
            "rows": size.rows, "dim": size.dim, "batch": size.batch, "ids": "uniform", "bits": bits, "pass": "lookup",
        }  # fmt: skip
        table, theirs = held.coded[bits], _baseline(against, bits, held, context)
        with torch.no_grad():
            context.fill(
                row,
                lambda i: table.lookup(inputs[i % len(inputs)]),
                lambda i: theirs(inputs[i % len(inputs)]),
            )

    name = {FLOAT: "float32", FBGEMM: "FBGEMM", TORCH: "torch"}[against]
    return Case(f"int{bits}-{name}", "lookup", against, run, LIMITS[against])


def _held(context: Context) -> Held:
    size = context.size
    coded = {bits: coded_table(size.rows, size.dim, bits, context) for bits in BITS}
    return Held(full_table(size.rows, size.dim, context.generator(), context.device), coded)


def _baseline(against: str, bits: int, held: Held, context: Context) -> Callable[[Tensor], object]:
    rows, dim, batch = context.size.rows, context.size.dim, context.size.batch
    offsets = torch.arange(batch + 1)
    if against == FLOAT:
        return lambda ids: held.full(ids.view(-1, 1))
    if against == FBGEMM:
        tbe = fbgemm.served(rows, dim, bits, context.device)
        return lambda ids: tbe(ids, offsets)
    if context.device.type != "cpu":
        raise NotMeasured("torch's quantized bags are for the CPU")
    table = fbgemm.rows_with_ranges(rows, dim, bits)
    op = getattr(torch.ops.quantized, f"embedding_bag_{'byte' if bits == 8 else '4bit'}_rowwise_offsets")
    return lambda ids: op(table, ids, offsets, include_last_offset=True)
