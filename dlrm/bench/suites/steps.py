"""Training steps of the demo's and of Kaggle's model with every method, against full tables at their best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.optim import Adagrad, Optimizer

from embpress.compressors import MethodSpec, TableCollection, available, parse
from embpress.dlrm.bench.baselines import NotMeasured
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.demo import RATIO, ROWS, SCALE, demo_data, demo_settings
from embpress.dlrm.bench.step import KAGGLE_ROWS, bench_model, bench_settings, scaled, step_inputs, training_step
from embpress.dlrm.bench.timing import Call
from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.runs.experiment import build_model, method_generator, plan_tables, table_configs
from embpress.dlrm.training.settings import Settings

FULL_TABLES, DENSE, ALL_ROWS = "full tables", "dense gradients", "dense gradients, torch's Adagrad"
LIMITS = {"tt": 1.3}
LIMIT, DENSE_LIMIT = 1.15, 0.7
KAGGLE_METHOD = "mlet:k=64"
_AT_OWN_RATIO = {name: f"{name}:ratio=4" for name in ("lowrank", "md")}  # which reach no 16
_BATCHES = 64  # in turn


@dataclass(frozen=True)
class Size:
    """How large the cases are.

    Attributes:
        samples, scale: of the demo's synthetic data.
        ratio: full bytes / serving bytes of all its tables.
        batch: of the demo's steps.
        kaggle_scale: share of Criteo-Kaggle's table sizes.
        kaggle_batch: samples of a step on them.
    """

    samples: int = ROWS
    scale: float = SCALE
    ratio: float = RATIO
    batch: int = 256
    kaggle_scale: float = 0.1
    kaggle_batch: int = 2048


FULL = Size()
QUICK = Size(5000, SCALE, 3.0, 32, 1e-4, 32)


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case in its order; those that hold the same data stand together."""
    named = [_AT_OWN_RATIO.get(name, name) for name in available() if not parse(name).tags.plain]
    return [
        Case("full", "full tables", ALL_ROWS, _full_against_all_rows, DENSE_LIMIT),
        Case("full-sparse", "full tables", DENSE, _full_against_dense),
        *(_demo_case(parse(name)) for name in named),
        Case(KAGGLE_METHOD, "kaggle", FULL_TABLES, _kaggle_case, LIMIT),
    ]


Sparse = bool | Literal["auto"] | None


def _demo_case(spec: MethodSpec) -> Case:
    def run(context: Context, row: Row) -> None:
        reason = spec.cls.unavailable(context.device)
        if reason is not None:
            raise NotMeasured(reason)
        ours, theirs = _demo_step(spec, "auto", context, row), _demo_step(parse("full"), "auto", context)
        context.fill(row, ours, theirs)

    return Case(str(spec), "demo", FULL_TABLES, run, LIMITS.get(spec.name, LIMIT))


def _full_against_all_rows(context: Context, row: Row) -> None:
    """Steps on the rows of a batch against what plain torch does: Adagrad over all rows."""
    full = parse("full")
    ours, theirs = _demo_step(full, "auto", context, row), _demo_step(full, False, context, optimizers=_plain)
    context.fill(row, ours, theirs)


def _full_against_dense(context: Context, row: Row) -> None:
    """Steps on the rows of a batch against the fused step on all rows that dense gradients get here."""
    full = parse("full")
    ours, theirs = _demo_step(full, "auto", context, row), _demo_step(full, False, context)
    context.fill(row, ours, theirs)


def _plain(model: nn.Module, settings: Settings) -> list[Optimizer]:
    """torch's Adagrad as it comes, for everything."""
    return [Adagrad(model.parameters(), lr=settings.learning_rate)]


def _demo_step(
    spec: MethodSpec,
    sparse: Sparse,
    context: Context,
    row: Row | None = None,
    optimizers: Callable[[nn.Module, Settings], list[Optimizer]] | None = None,
) -> Call:
    """One step of a model of its own on the demo's batches in turn; says in the row what it is."""
    data: ClickData = context.hold("demo", lambda: demo_data(context))
    settings = replace(demo_settings(data, context), batch_size=context.size.batch)
    tables = TableCollection.build(
        table_configs(data, settings.width),
        plan_tables(data, spec, settings),
        sparse=sparse,
        update={"optimizer": settings.optimizer, "learning_rate": settings.learning_rate},
        device=settings.device,
        generator=method_generator(0),
    )
    if row is not None:
        row.setting = {
            "rows": sum(data.num_embeddings), "tables": len(data.features), "dim": settings.width,
            "batch": settings.batch_size, "ratio": settings.ratio, "ids": "the demo's", "optimizer": settings.optimizer,
            "method": str(spec), "pass": "training step",
        }  # fmt: skip
        row.figures["serving_bytes"] = tables.serving_bytes
    model = build_model(data, tables, settings, 0)
    made = None if optimizers is None else optimizers(model, settings)
    return training_step(model, settings, _batches(data, settings), made)


def _batches(data: ClickData, settings: Settings) -> list[Part]:
    size = settings.batch_size
    count = max(1, min(_BATCHES, len(data.train) // size))
    return [data.train.slice(i * size, (i + 1) * size).to(settings.device) for i in range(count)]


def _kaggle_case(context: Context, row: Row) -> None:
    size, spec = context.size, parse(KAGGLE_METHOD)
    settings = bench_settings("kaggle", size.kaggle_batch, context.device)
    sizes = scaled(KAGGLE_ROWS, size.kaggle_scale)
    inputs = step_inputs(sizes, size.kaggle_batch, context.generator(), device=context.device)
    model, full = (bench_model(sizes, each, settings, context.generator()) for each in (spec, parse("full")))
    row.setting = {
        "rows": sum(sizes), "tables": len(sizes), "dim": settings.width, "batch": size.kaggle_batch,
        "ids": "zipf 1.05", "optimizer": settings.optimizer, "method": str(spec), "pass": "training step",
    }  # fmt: skip
    row.figures["serving_bytes"] = model.tables.serving_bytes
    context.fill(row, training_step(model, settings, inputs), training_step(full, settings, inputs))
