"""ROBE's passes over table sizes, ratios and chunk sizes, dense gradients against sparse: 10000x sharing, Table 2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from embpress.compressors.methods.robe import Robe
from embpress.dlrm.bench.baselines import NotMeasured
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import robe_table, uniform
from embpress.dlrm.bench.roofline import robe_backward, robe_forward, robe_size
from embpress.dlrm.bench.sharing_paper import BATCH, BY_RATIO, BY_Z, DENSE, DIM, FORWARD, SPARSE, Z_RATIO, published
from embpress.dlrm.bench.timing import Call
from embpress.kernels.reference import robe_elements

OPS = "robe_"
Z = 32
FORWARD_LIMIT = 1.5  # from the smallest to the largest table at one ratio
_INPUTS = 8  # sets of ids in turn
_MAX_CPU_BYTES = 1e9  # of an array; its gradient takes as much again


@dataclass(frozen=True)
class Size:
    """How large the cases are.

    Attributes:
        rows: table sizes at each ratio, the smallest first.
        ratios: compression ratios.
        chunks: sizes of chunks beside 32, at ratio 100.
        chunk_rows: of their table.
        batch: lookups of a call.
    """

    rows: tuple[int, ...] = (4_000_000, 16_000_000, 64_000_000, 256_000_000)
    ratios: tuple[int, ...] = tuple(BY_RATIO[DENSE])
    chunks: tuple[int, ...] = (1, 4, 8, 16, 128)
    chunk_rows: int = 16_000_000
    batch: int = BATCH


FULL = Size()
QUICK = Size((4000, 64_000), (10, 1000), (1, 128), 16_000, 16)


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order; the full tables themselves are nowhere."""
    smallest = size.rows[0]
    return [
        *(_forward_case(rows, smallest, ratio) for ratio in size.ratios for rows in size.rows[1:]),
        *(_chunk_case(z, size.chunk_rows) for z in size.chunks),
        *(_backward_case(rows, ratio, Z) for ratio in size.ratios for rows in size.rows),
        *(_backward_case(size.chunk_rows, Z_RATIO, z) for z in size.chunks),
    ]


def _forward_case(rows: int, smallest: int, ratio: int) -> Case:
    def run(context: Context, row: Row) -> None:
        series = BY_RATIO[FORWARD]
        row.figures |= _published(published(series, ratio, rows), published(series, ratio, smallest))
        tables = [_table(n, ratio, Z, context) for n in (rows, smallest)]
        row.setting = _setting(tables[0], ratio, context) | {"pass": "lookup"}
        ours, baseline = (_lookups(table, context) for table in tables)
        context.fill(row, ours, baseline, work=robe_forward(tables[0].memory.shape[0], DIM, Z, context.size.batch))

    return Case(f"lookup-{_short(rows)}-{ratio}x", "lookup", _short(smallest), run, FORWARD_LIMIT)


def _chunk_case(z: int, rows: int) -> Case:
    def run(context: Context, row: Row) -> None:
        row.figures |= _published(*(published(BY_Z[FORWARD], each, rows) for each in (z, Z)))
        tables = [_table(rows, Z_RATIO, each, context) for each in (z, Z)]
        row.setting = _setting(tables[0], Z_RATIO, context) | {"pass": "lookup"}
        ours, baseline = (_lookups(table, context) for table in tables)
        context.fill(row, ours, baseline, work=robe_forward(tables[0].memory.shape[0], DIM, z, context.size.batch))

    return Case(f"lookup-{_short(rows)}-Z{z}", "lookup by chunk", f"Z{Z}", run)


def _backward_case(rows: int, ratio: int, z: int) -> Case:
    """The backward alone, the forward done before, of all elements against that of the touched ones."""

    def run(context: Context, row: Row) -> None:
        key, by = (ratio, BY_RATIO) if z == Z else (z, BY_Z)
        row.figures |= _published(*(published(by[name], key, rows) for name in (DENSE, SPARSE)))
        table = _table(rows, ratio, z, context)
        row.setting = _setting(table, ratio, context) | {"pass": "backward"}
        ids = _ids(table, context)
        outputs = [table.lookup(each) for each in ids]
        coefficients = table.constants.on(context.device, "coefficients")
        indices = [robe_elements(each, coefficients, table.memory.shape[0], z, DIM)[0].flatten() for each in ids]
        grad = torch.randn(context.size.batch, DIM, generator=context.generator()).to(context.device)

        def dense(i: int) -> None:
            torch.autograd.grad(outputs[i % len(outputs)], table.memory, grad, retain_graph=True)

        size = table.memory.shape[0]
        context.fill(
            row,
            dense,
            lambda i: sparse_gradient(indices[i % len(indices)], grad, size),
            work=robe_backward(size, DIM, context.size.batch),
        )

    name = f"back-{_short(rows)}-{ratio}x" if z == Z else f"back-{_short(rows)}-Z{z}"
    return Case(name, "backward" if z == Z else "backward by chunk", "sparse", run)


def sparse_gradient(index: Tensor, grad: Tensor, size: int) -> Tensor:
    """The gradient of the touched elements alone, by the paper's Algorithm 1.

    Args:
        index: elements that the rows are made of, int64 `(B D,)`, as its forward keeps them.
        grad: of the rows, `(B, D)`.
        size: elements of the array.

    Returns:
        A sparse tensor `(size,)`, coalesced.
    """
    touched, inverse = index.unique(return_inverse=True)
    values = grad.new_zeros(len(touched)).scatter_add_(0, inverse, grad.flatten())
    return torch.sparse_coo_tensor(touched.unsqueeze(0), values, (size,), is_coalesced=True, check_invariants=False)


def _published(ours: float | None, baseline: float | None) -> dict[str, float]:
    """What the paper has for ours / baseline."""
    return {} if ours is None or baseline is None else {"published": ours / baseline}


def _table(rows: int, ratio: int, z: int, context: Context) -> Robe:
    elements = robe_size(rows, DIM, z, ratio)
    if context.device.type == "cpu" and 4 * elements > _MAX_CPU_BYTES:
        raise NotMeasured(f"its array of {4e-9 * elements:.1f} GB, and as much again, is for a GPU")
    return robe_table(rows, DIM, z, elements, context)


def _ids(table: Robe, context: Context) -> list[Tensor]:
    rows, batch, generator = table.num_embeddings, context.size.batch, context.generator()
    return [uniform(rows, batch, generator).to(context.device) for _ in range(_INPUTS)]


def _lookups(table: Robe, context: Context) -> Call:
    inputs = _ids(table, context)

    def lookup(i: int) -> None:
        with torch.no_grad():
            table.lookup(inputs[i % len(inputs)])

    return lookup


def _setting(table: Robe, ratio: int, context: Context) -> dict[str, object]:
    return {
        "rows": table.num_embeddings, "dim": DIM, "z": table.z, "ratio": ratio, "elements": table.memory.shape[0],
        "batch": context.size.batch, "ids": "uniform",
    }  # fmt: skip


def _short(rows: int) -> str:
    return f"{rows // 10**6}M" if rows >= 10**6 else str(rows)
