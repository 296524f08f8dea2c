"""One run: a method and a seed, from building the tables to the record."""

from __future__ import annotations

import datetime
import time
from typing import Any

import numpy as np
import torch
from torch import Generator
from torch.nn import functional as F

from embpress.compressors import BudgetError, InputError, MethodSpec, TableCollection, TableConfig
from embpress.dlrm.data import ClickData
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.measure.environment import environment
from embpress.dlrm.measure.latency import measure
from embpress.dlrm.measure.memory import device_peak_bytes, peak_bytes, reset_device_peak, resident_bytes
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.runs.record import run_id
from embpress.dlrm.training.evaluate import cache_hit_rate, inputs_of
from embpress.dlrm.training.loop import Progress, RunFailed, train
from embpress.dlrm.training.model import build, describe
from embpress.dlrm.training.optim import make_optimizers
from embpress.dlrm.training.settings import Settings

# the methods' own draws never touch the generator that MLPs and data order share across methods
_METHOD_STREAM = 7919


def table_configs(data: ClickData, width: int) -> list[TableConfig]:
    """The tables of a model on these data."""
    return [TableConfig(n, width, name) for name, n in zip(data.features, data.num_embeddings)]


def build_tables(
    data: ClickData, spec: MethodSpec, settings: Settings, seed: int, device: str | None = None
) -> TableCollection:
    """The tables of a run, on its device or on another (`meta` takes no memory).

    Raises:
        BudgetError: the size asked for cannot be reached.
    """
    return TableCollection.build(
        table_configs(data, settings.width),
        spec,
        ratio=settings.ratio,
        budget=settings.budget,
        min_rows=settings.min_rows,
        largest=settings.largest,
        update={"optimizer": settings.optimizer, "learning_rate": settings.learning_rate},
        device=device or settings.device,
        generator=Generator().manual_seed(seed * 1_000_003 + _METHOD_STREAM),
    )


def build_model(data: ClickData, tables: TableCollection, settings: Settings, seed: int) -> ClickModel:
    """The click model around the tables."""
    return build(data.train.dense.shape[1], tables, settings, seed)


def asked_size(spec: MethodSpec, settings: Settings) -> tuple[float | None, int | None]:
    """The ratio and the budget that a method has to meet: its own, else the run's; none where its size is fixed."""
    if not spec.sizable:
        return None, None
    if spec.ratio is not None or spec.budget is not None:
        return spec.ratio, spec.budget
    return settings.ratio, settings.budget


def identity(data: ClickData, spec: MethodSpec, settings: Settings) -> dict[str, Any]:
    """What a run's result depends on besides method and seed; full tables are the same run at any ratio."""
    ratio, budget = asked_size(spec, settings)
    return {"data": data.fingerprint, "protocol": settings.protocol(), "ratio": ratio, "budget": budget}


def describe_run(data: ClickData, spec: MethodSpec, settings: Settings, seed: int, command: str) -> dict[str, Any]:
    """The part of a record that is known before the run."""
    rows = {"train": len(data.train), "valid": len(data.valid), "test": len(data.test)}
    lookups = [float(share) for share in data.row0_share]
    ratio, budget = asked_size(spec, settings)
    about = dict(data.about)
    return {
        "id": run_id(str(spec), seed, identity(data, spec, settings)),
        "method": str(spec),
        "name": spec.name,
        "knobs": dict(spec.knobs),
        "seed": seed,
        "asked": {
            "ratio": ratio,
            "budget": budget,
        },
        "status": "failed",
        "reason": None,
        "smallest": None,
        "metrics": {},
        "tables": [],
        "learning_curve": [],
        "data": {
            "name": data.name,
            "format": data.format,
            "fingerprint": data.fingerprint,
            "rows": rows,
            "features": data.features,
            "num_embeddings": data.num_embeddings,
            "dense": data.dense_names,
            "split": about.get("split"),
            "min_count": about.get("min_count"),
            "label_mean": about.get("label_mean"),
            "columns": about.get("columns"),
            "best_auc": data.best_auc,
            "row0_share": lookups,
            "row0_share_total": sum(lookups) / max(1, len(lookups)),
            "id_frequencies": id_frequencies(data),
            "about": about,
        },
        "model": describe(settings),
        "training": {
            "optimizer": settings.optimizer,
            "learning_rate": settings.learning_rate,
            "batch_size": settings.batch_size,
            "epochs": settings.epochs,
            **({"amp": "bfloat16"} if settings.amp else {}),
        },
        "environment": environment(settings.device),
        "backend": "torch",
        "device": settings.device,
        "predictions": None,
        "command": command,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def id_frequencies(data: ClickData) -> list[dict[str, Any]]:
    """Per feature, ids and training lookups by powers of two of the id's count: how heavy the head is."""
    tables = []
    for name, counts in zip(data.features, data.counts):
        counts = counts.double()
        bins = counts.clamp(min=1).log2().floor().long()
        seen = counts > 0
        size = int(bins.max()) + 1
        ids = torch.bincount(bins[seen], minlength=size)
        lookups = torch.zeros(size, dtype=torch.float64).index_add_(0, bins[seen], counts[seen])
        tables.append({"feature": name, "ids": ids.tolist(), "lookups": lookups.long().tolist()})
    return tables


def run(
    data: ClickData,
    spec: MethodSpec,
    settings: Settings,
    seed: int,
    command: str = "",
    progress: Progress | None = None,
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Trains and measures one method with one seed.

    Returns:
        The record, and the test probabilities `(N,)` float32 at the best epoch. A run that fails gives a record that
        says why; it does not raise.
    """
    record = describe_run(data, spec, settings, seed, command)
    try:
        return _run(record, data, spec, settings, seed, progress)
    except BudgetError as error:
        full = sum(4 * n * settings.width for n in data.num_embeddings)
        smallest = {"bytes": error.smallest, "ratio": full / error.smallest}
        return {**record, "status": "cannot reach", "reason": str(error), "smallest": smallest}, None
    except (RunFailed, InputError) as error:
        return {**record, "reason": str(error)}, None
    except (MemoryError, RuntimeError, torch.OutOfMemoryError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        reason = "out of memory" if isinstance(error, MemoryError) or "alloc" in text[0].lower() else text[0]
        return {**record, "reason": reason}, None


def _run(
    record: dict[str, Any], data: ClickData, spec: MethodSpec, settings: Settings, seed: int, progress: Progress | None
) -> tuple[dict[str, Any], np.ndarray]:
    tables = build_tables(data, spec, settings, seed)
    record |= {
        "backend": tables.backend,
        "tables": [
            {
                "feature": spec_.name,
                "num_embeddings": spec_.num_embeddings,
                "embedding_dim": table.embedding_dim,
                "method": table.spec_name,
                "knobs": {key: _scalar(value) for key, value in table.knobs().items()},
                "modifiers": list(table.modifiers),
                "serving_bytes": size,
                "full_bytes": 4 * spec_.num_embeddings * settings.width,
                "row0_share": share,
            }
            for spec_, table, size, share in zip(tables.configs, tables.tables, tables.table_bytes(), data.row0_share)
        ],
    }
    largest = max(tables.tables, key=lambda table: (table.spec_name == spec.name, table.num_embeddings))
    record["knobs"] = {key: _scalar(value) for key, value in largest.knobs().items()}
    ledger = tables.ledger(settings.optimizer, settings.batch_size)
    metrics: dict[str, float] = {
        "serving_bytes": ledger.serving_bytes,
        "full_bytes": tables.full_bytes,
        "training_bytes": ledger.training_bytes,
        "ratio": tables.full_bytes / ledger.serving_bytes,
    }
    record["metrics"] = metrics
    model = build_model(data, tables, settings, seed)
    reset_device_peak(settings.device)
    trained = train(model, data, settings, seed, progress)
    metrics |= trained.metrics
    device_peak = device_peak_bytes(settings.device)
    if device_peak is not None:
        metrics["peak_device_bytes"] = device_peak
    record["learning_curve"] = trained.curve
    hit_rate = cache_hit_rate(tables, data.test)
    if hit_rate is not None:
        metrics["cache_hit_rate"] = hit_rate
    if progress:
        progress(0, 0, "measuring latency")
    start = time.perf_counter()
    folded = tables.fold()
    Clock(settings.device).wait()
    metrics["fold_seconds"] = time.perf_counter() - start
    metrics |= measure(model, folded, data.train.dense.shape[1], settings.latency_seconds)
    del folded
    metrics["peak_memory_bytes"] = peak_memory(model, data, settings)
    assert trained.test_logits is not None  # train() predicts the test part in every run that ends
    return {**record, "status": "ok"}, torch.sigmoid(trained.test_logits).float().numpy()


def peak_memory(model: ClickModel, data: ClickData, settings: Settings) -> int:
    """Peak bytes of training: parameters, buffers and optimizer state, and the most that one step adds to them.

    It trains the model on, so it comes after everything else.
    """
    optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
    batch = data.train.slice(0, min(settings.batch_size, len(data.train))).to(model.device)

    def step() -> None:
        F.binary_cross_entropy_with_logits(model(batch.dense, inputs_of(batch)), batch.labels).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    step()  # makes the optimizer state
    return resident_bytes(model, optimizers) + peak_bytes(step, model.device)


def _scalar(value: Any) -> Any:
    """A knob as a JSON scalar; shapes as `200x220x250`."""
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else value
