"""All tables of the demo's model in one folded lookup, by method and batch, against full tables."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from embpress.compressors import TableCollection, parse
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.demo import RATIO, ROWS, SCALE, demo_data, demo_settings
from embpress.dlrm.bench.inputs import INPUTS
from embpress.dlrm.data import ClickData
from embpress.dlrm.measure.latency import BATCHES, zipf_ids
from embpress.dlrm.runs.experiment import build_tables
from embpress.dlrm.sets import DEFAULT, specs_of

FULL_TABLES = "full tables"
LIMITS = {1: 1.5, 128: 1.3, 2048: 1.3}  # by batch
LIMITED, SLOW = ("hash", "qr", "robe", "full+int4"), {"tt": 3.0}


@dataclass(frozen=True)
class Size:
    """How large the cases are.

    Attributes:
        batches: samples of a lookup, one id a table each.
        samples, scale: of the synthetic data, whose vocabulary makes the tables' sizes.
        ratio: full bytes / serving bytes of all tables.
    """

    batches: tuple[int, ...] = BATCHES
    samples: int = ROWS
    scale: float = SCALE
    ratio: float = RATIO


FULL = Size()
QUICK = Size((8,), 5000, SCALE, 3.0)


def methods() -> list[str]:
    """Those with a limit, then those that are compared where nobody says what."""
    specs = dict.fromkeys((*LIMITED, *SLOW, *specs_of(DEFAULT)))
    return [spec for spec in specs if spec != "full"]


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order."""
    return [_case(spec, batch) for batch in size.batches for spec in methods()]


def _limit(spec: str, batch: int) -> float | None:
    return LIMITS.get(batch) if spec in LIMITED else SLOW.get(spec)


def _case(spec: str, batch: int) -> Case:
    def run(context: Context, row: Row) -> None:
        data, full = context.hold("demo", lambda: _demo(context))
        table = _folded(spec, data, context)
        sizes, generator = [config.num_embeddings for config in full.configs], context.generator()
        inputs = [zipf_ids(sizes, batch, generator).to(context.device) for _ in range(INPUTS)]
        row.setting = {
            "rows": sum(sizes), "tables": len(sizes), "dim": full.embedding_dim, "batch": batch,
            "ratio": context.size.ratio, "ids": "zipf 1.05", "method": spec, "pass": "folded lookup",
        }  # fmt: skip
        row.figures["serving_bytes"] = table.serving_bytes
        with torch.inference_mode():
            context.fill(row, lambda i: table(inputs[i % len(inputs)]), lambda i: full(inputs[i % len(inputs)]))

    return Case(f"{spec}-B{batch}", f"batch {batch:,}", FULL_TABLES, run, _limit(spec, batch))


def _demo(context: Context) -> tuple[ClickData, TableCollection]:
    data = demo_data(context)
    return data, _folded("full", data, context)


def _folded(spec: str, data: ClickData, context: Context) -> TableCollection:
    return build_tables(data, parse(spec), demo_settings(data, context), 0).fold()
