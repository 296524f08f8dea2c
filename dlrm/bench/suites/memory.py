"""Memory of a lookup and of a step beyond input, output and gradient: by the lookups, not by the table's rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embpress.compressors import InputError, parse_all
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import one_table, uniform, updating
from embpress.dlrm.bench.memory import PROFILER
from embpress.dlrm.bench.suite import knob
from embpress.dlrm.measure.memory import peak_bytes

METHODS = "robe:ratio=100,hash:ratio=10,qr,mlet"


@dataclass(frozen=True)
class Size:
    """How large the cases are.

    Attributes:
        rows: table sizes.
        batches: lookups of a call.
    """

    methods: str = knob(METHODS, "Methods with their knobs, separated by commas.")
    dim: int = knob(32, "Width of a row.")
    rows: tuple[int, ...] = (200_000, 2_000_000)
    batches: tuple[int, ...] = (1024, 8192)


FULL = Size()
QUICK = Size(dim=16, rows=(2000, 40_000), batches=(64, 512))


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order; nothing is timed."""
    if size.dim < 1:
        raise InputError("--dim must be at least 1")
    return [
        _case(str(spec), rows, batch)
        for spec in parse_all(size.methods)
        for rows in size.rows
        for batch in size.batches
    ]


def _case(spec: str, rows: int, batch: int) -> Case:
    def run(context: Context, row: Row) -> None:
        dim, generator = context.size.dim, context.generator()
        table, optimizers = one_table(spec, rows, dim, context)
        inputs = [(uniform(rows, batch, generator).to(context.device).view(-1, 1),)]
        grad = torch.randn(batch, dim, generator=generator).to(context.device)
        row.setting = {
            "rows": rows, "dim": dim, "batch": batch, "ids": "uniform", "method": spec, "optimizer": "sgd",
        }  # fmt: skip
        parameters = [p for one in optimizers for group in one.param_groups for p in group["params"]]
        gradients = _gradient_bytes(table, parameters, inputs[0], grad)
        with torch.no_grad():
            lookup = _peak(lambda: table(*inputs[0]), context)
        step = updating(table, optimizers, inputs, grad)
        whole = _peak(lambda: step(0), context)
        output = grad.numel() * grad.element_size()
        row.figures = {
            "output_bytes": output,
            "gradient_bytes": gradients,
            "lookup_extra_bytes": lookup - output,
            "step_extra_bytes": whole - output - gradients,
            "lookup_extra_bytes_a_sample": (lookup - output) / batch,
            "step_extra_bytes_a_sample": (whole - output - gradients) / batch,
            "table_bytes": sum(p.numel() * p.element_size() for p in parameters),
        }

    return Case(f"{spec.partition(':')[0]}-n{_short(rows)}-B{batch}", "memory", PROFILER, run)


def _peak(call: Callable[[], object], context: Context) -> int:
    """Of a call that went before: what is made once is there."""
    call()
    return peak_bytes(call, context.device)


def _gradient_bytes(table: nn.Module, parameters: Sequence[Tensor], inputs: tuple[Tensor, ...], grad: Tensor) -> int:
    """Bytes of the parameters' gradients as the backward leaves them, a sparse one's ids and rows.

    Rows that are the output's gradient itself are no more than that was, which is there before.
    """
    table(*inputs).backward(grad)
    sizes = {}
    for parameter in parameters:
        own = parameter.grad
        assert own is not None
        for part in (own._indices(), own._values()) if own.is_sparse else (own,):
            sizes[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
        parameter.grad = None
    sizes.pop(grad.untyped_storage().data_ptr(), None)
    return sum(sizes.values())


def _short(rows: int) -> str:
    return f"{rows / 10**6:g}M" if rows >= 10**6 else f"{rows / 1000:g}k"
