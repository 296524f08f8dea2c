"""Predictions and what is measured on them: exact AUC, log loss, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embpress.compressors import Compressor, TableCollection
from embpress.compressors.tables.serving import fold_steps
from embpress.dlrm.data import Part
from embpress.dlrm.measure import spool
from embpress.dlrm.measure.auc import auc
from embpress.dlrm.measure.tally import PIECE
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


def predict(model: ClickModel, part: Part, batch_size: int = BATCH, *, tables: TableCollection | None = None) -> Tensor:
    """Logits `(N,)` of a part, in eval mode and without gradients, on the CPU.

    It takes `batch_size` samples at once, or as many as the model says fit `SCORED_BYTES`. Of many rows the logits lie
    in a file: see `spool.empty`.

    Args:
        tables: look up here, as in folded tables, and not in those of the model.
    """
    rows = model.tables if tables is None else tables
    was, device = model.training, model.device
    size = max(1, min(batch_size, SCORED_BYTES // max(1, model.sample_bytes())))
    model.eval()
    found = spool.empty(len(part)) if len(part) > spool.IN_MEMORY else torch.empty(0)
    start = 0
    with torch.inference_mode():
        for some in part.split(size):
            batch = some.to(device)
            logits = model.score(batch.dense, rows(inputs_of(batch)))
            if not len(found):
                found = logits.new_empty(len(part))
            # into what is there already: small results that stay would keep the memory of large ones between them
            found[start : start + len(some)] = logits
            start += len(some)
    model.train(was)
    return found if len(part) > spool.IN_MEMORY else found.cpu().clone()


def probabilities(logits: Tensor) -> Tensor:
    """Click probabilities `(N,)` float32 of logits; of many rows in a file, as those of `predict`."""
    found = spool.empty(len(logits))
    for start in range(0, len(logits), PIECE):
        found[start : start + PIECE] = torch.sigmoid(logits[start : start + PIECE])
    return found


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """`auc` (exact, ties counted half; NaN for one class), `log_loss` (nats a sample), `accuracy` (at 1/2).

    Of more than `PIECE` rows the log loss is a sum of sums, whose last digits may be other than those of one sum.
    """
    loss, right = 0.0, 0
    for start in range(0, len(logits), PIECE):
        some, clicked = logits[start : start + PIECE], labels[start : start + PIECE]
        mean = float(F.binary_cross_entropy_with_logits(some.double(), clicked.double()))
        loss += mean * (len(some) / len(logits))
        right += int(((some > 0) == (clicked > 0.5)).sum())
    return {"auc": auc(logits, labels), "log_loss": loss, "accuracy": right / len(logits)}


@dataclass(frozen=True)
class Tested:
    """What the test part says of a model as it is served.

    Attributes:
        logits: `(N,)` of the served model.
        metrics: its `scores`; where serving changes lookups also `auc_trained` and `log_loss_trained`.
        served: `modifiers`, `auc` and `log_loss` as trained (no modifiers) and after each step of folding; empty where
            serving changes no lookup.
    """

    logits: Tensor
    metrics: dict[str, float]
    served: tuple[dict[str, Any], ...] = ()


def tested(tables: Iterable[Compressor], score: Callable[[int | None], tuple[Tensor, dict[str, float]]]) -> Tested:
    """Scores a model as it was trained, and as `fold()` makes it, modifier by modifier.

    Args:
        tables: those of the model.
        score: logits and `scores` of the model as trained (None), or with tables folded by so many steps.
    """
    logits, trained = score(None)
    found, served = trained, [_point("", trained)]
    for modifiers, step in fold_steps(tables):
        logits, found = score(step)
        served.append(_point(modifiers, found))
    if len(served) == 1:
        return Tested(logits, trained)
    before = {f"{name}_trained": trained[name] for name in ("auc", "log_loss")}
    return Tested(logits, {**found, **before}, tuple(served))


def _point(modifiers: str, found: dict[str, float]) -> dict[str, Any]:
    return {"modifiers": modifiers, "auc": found["auc"], "log_loss": found["log_loss"]}


def cache_hit_rate(tables: TableCollection, part: Part) -> float | None:
    """The share of lookups in tables with a cache that the cached rows answer; None where no table has one."""
    hits = lookups = 0
    for some in part.split(PIECE):
        for t, table in enumerate(tables.tables):
            ids = some.bags[t].values if t in some.bags else some.ids[:, t]
            cached = table.uncompressed(ids.to(table.device, torch.int64))
            if cached is not None:
                hits += int(cached.sum())
                lookups += ids.numel()
    return hits / lookups if lookups else None
