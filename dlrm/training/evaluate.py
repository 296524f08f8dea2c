"""Predictions and what is measured on them: exact AUC, log loss, accuracy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embpress.compressors import TableCollection
from embpress.dlrm.data import Part
from embpress.dlrm.measure.auc import auc
from embpress.dlrm.models.base import SCORED_BYTES, ClickModel

BATCH = 16384


def inputs_of(part: Part) -> Any:
    """A part's ids as `TableCollection` takes them: a tensor, or a list with pairs where features are multi-hot."""
    if not part.bags:
        return part.ids
    columns: list[Any] = list(part.ids.unbind(1))
    for feature, bags in part.bags.items():
        columns[feature] = (bags.values, bags.offsets[:-1])
    return columns


def predict(model: ClickModel, part: Part, batch_size: int = BATCH) -> Tensor:
    """Logits `(N,)` of a part, in eval mode and without gradients, on the CPU.

    It takes `batch_size` samples at once, or as many as the model says fit `SCORED_BYTES`.
    """
    was, device = model.training, model.device
    size = max(1, min(batch_size, SCORED_BYTES // max(1, model.sample_bytes())))
    model.eval()
    with torch.inference_mode():
        batches = (part.slice(i, i + size).to(device) for i in range(0, len(part), size))
        logits = torch.cat([model(batch.dense, inputs_of(batch)) for batch in batches])
    model.train(was)
    return logits.cpu().clone()


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """`auc` (exact, ties counted half; NaN for one class), `log_loss` (nats a sample), `accuracy` (at 1/2)."""
    return {
        "auc": auc(logits, labels),
        "log_loss": float(F.binary_cross_entropy_with_logits(logits.double(), labels.double())),
        "accuracy": float(((logits > 0) == (labels > 0.5)).double().mean()),
    }


def cache_hit_rate(tables: TableCollection, part: Part) -> float | None:
    """The share of lookups in tables with a cache that the cached rows answer; None where no table has one."""
    hits = lookups = 0
    for t, table in enumerate(tables.tables):
        ids = part.bags[t].values if t in part.bags else part.ids[:, t]
        cached = table.uncompressed(ids.to(table.device, torch.int64))
        if cached is not None:
            hits += int(cached.sum())
            lookups += ids.numel()
    return hits / lookups if lookups else None
