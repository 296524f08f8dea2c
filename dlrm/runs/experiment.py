"""One run: a method and a seed, from building the tables to the record."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from embpress.compressors import (
    BudgetError,
    Compressor,
    InputError,
    MethodSpec,
    Plan,
    TableCollection,
    TableConfig,
    plan,
)
from embpress.compressors.shardable import shardable
from embpress.compressors.tables.planning.proportional import kept_full
from embpress.dlrm.data import ClickData
from embpress.dlrm.data.assemble import count_lookups
from embpress.dlrm.distributed import together
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.measure.collisions import collisions
from embpress.dlrm.measure.environment import environment
from embpress.dlrm.measure.frequency import Frequencies
from embpress.dlrm.measure.latency import measure
from embpress.dlrm.measure.memory import device_peak_bytes, peak_bytes, reset_device_peak, resident_bytes
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.runs.best import BestEpoch
from embpress.dlrm.runs.checkpoint import Keeper
from embpress.dlrm.runs.partial import Partial
from embpress.dlrm.runs.record import (
    Asked,
    CurvePoint,
    DataRecord,
    FrequencyBin,
    Run,
    ServedPoint,
    Sharing,
    Smallest,
    TableRecord,
    typed,
)
from embpress.dlrm.training.click_model import train
from embpress.dlrm.training.evaluate import cache_hit_rate, inputs_of, probabilities
from embpress.dlrm.training.loop import Progress, RunFailed
from embpress.dlrm.training.model import build, describe, describe_training
from embpress.dlrm.training.optim import make_optimizers, sparse_gradients
from embpress.dlrm.training.settings import Settings

Measured = Callable[[], Run | None]  # a run of another seed whose latency stands for this one too, where there is one

# the methods' own draws never touch the generator that MLPs and data order share across methods
_METHOD_STREAM = 7919


def table_configs(data: ClickData, width: int) -> list[TableConfig]:
    """The tables of a model on these data."""
    return [TableConfig(n, width, name) for name, n in zip(data.features, data.num_embeddings)]


def plan_tables(data: ClickData, spec: MethodSpec, settings: Settings) -> Plan:
    """What each table of a run is; raises as `build_tables` does."""
    return plan(
        spec,
        table_configs(data, settings.width),
        ratio=settings.ratio,
        budget=settings.budget,
        min_rows=settings.min_rows,
        largest=settings.largest,
    )


def width_of(data: ClickData, spec: MethodSpec, settings: Settings) -> int:
    """The width that a method's tables are built with; the model's own where the size asked for cannot be reached."""
    try:
        return plan_tables(data, spec, settings).width
    except BudgetError:
        return settings.width


def build_tables(
    data: ClickData, spec: MethodSpec, settings: Settings, seed: int, device: str | None = None
) -> TableCollection:
    """The tables of a run, on its device or on another (`meta` takes no memory).

    Raises:
        BudgetError: the size asked for cannot be reached.
    """
    return TableCollection.build(
        table_configs(data, settings.width),
        plan_tables(data, spec, settings),
        sparse=sparse_gradients(settings.optimizer),
        update={"optimizer": settings.optimizer, "learning_rate": settings.learning_rate},
        device=device or settings.device,
        generator=method_generator(seed),
    )


def method_generator(seed: int) -> Generator:
    """The source of a method's own draws."""
    return Generator().manual_seed(seed * 1_000_003 + _METHOD_STREAM)


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


def describe_data(data: ClickData) -> DataRecord:
    """The data as the record holds them."""
    about = dict(data.about)
    shares = tuple(float(share) for share in data.row0_share)
    return DataRecord(
        name=data.name,
        format=data.format,
        fingerprint=data.fingerprint,
        rows={"train": len(data.train), "valid": len(data.valid), "test": len(data.test)},
        features=tuple(data.features),
        num_embeddings=tuple(data.num_embeddings),
        dense=tuple(data.dense_names),
        **{name: about.get(name) for name in ("split", "min_count", "label_mean", "columns")},
        best_auc=data.best_auc,
        row0_share=shares,
        row0_share_total=sum(shares) / max(1, len(shares)),
        id_frequencies=tuple(id_frequencies(data)),
        about=about,
    )


def describe_run(
    data: ClickData, spec: MethodSpec, settings: Settings, seed: int, command: str, described: DataRecord | None = None
) -> Run:
    """What of a run is known before it; it stands as failed. `described` are the data where that has been done."""
    return Run(
        method=str(spec),
        name=spec.name,
        knobs=dict(spec.knobs),
        modifiers=tuple(map(str, spec.modifiers)),
        is_full=spec.plain,
        is_baseline=spec.baseline,
        plan=spec.content,
        seed=seed,
        asked=Asked(*asked_size(spec, settings)),
        data=described or describe_data(data),
        model=describe(settings),
        training=describe_training(settings, len(data.train)),
        environment=environment(settings.device),
        backend="torch",
        device=settings.device,
        command=command,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


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
    measured: Measured | None = None,
    keeper: Keeper | None = None,
    counts: Callable[[Mapping[str, float]], bool] | None = None,
    partial: Partial | None = None,
) -> tuple[Run, np.ndarray | None]:
    """Trains and measures one method with one seed.

    Args:
        measured: gives, once this run is trained, one whose latency stands for it too; it is measured where there is
            none.
        keeper: takes the weights at the epoch that counts.
        counts: of a trial, whether it may come to count once it has these metrics; latency and peak memory of others
            are not measured.
        partial: what the run is kept in while it is trained, and is taken up from.

    Returns:
        The run, and the test probabilities `(N,)` float32 at the best epoch. A run that fails says why; it does not
        raise.
    """
    about = describe_run(data, spec, settings, seed, command)
    full_bytes = sum(4 * n * settings.width for n in data.num_embeddings)

    def work(found: dict[str, Any]) -> np.ndarray:
        def once() -> np.ndarray:
            found.clear()
            return _run(found, data, spec, settings, seed, progress, measured, keeper, counts, partial)

        if partial is None:
            return once()
        partial.begin(about, weights=keeper is not None)
        return partial.tried(once)

    return attempt(about, full_bytes, work)


def attempt(
    about: Run,
    full_bytes: int,
    work: Callable[[dict[str, Any]], np.ndarray],
    failures: tuple[type[Exception], ...] = (MemoryError, RuntimeError),
) -> tuple[Run, np.ndarray | None]:
    """Does the work of a run and says how it ended.

    Args:
        about: what is known before.
        full_bytes: of all tables.
        work: fills in fields of the run as they become known, so that one that fails half way holds them, and gives the
            test probabilities.
        failures: what makes a failed run, besides what this program itself refuses.
    """
    found: dict[str, Any] = {}
    try:
        predictions = work(found)
    except BudgetError as error:
        smallest = Smallest.of(error.smallest, full_bytes)
        return replace(about, status="cannot reach", reason=str(error), smallest=smallest), None
    except (RunFailed, InputError) as error:
        return replace(about, **found, reason=str(error)), None
    except failures as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        reason = "out of memory" if isinstance(error, MemoryError) or "alloc" in text[0].lower() else text[0]
        return replace(about, **found, reason=reason), None
    return replace(about, **found, status="ok"), predictions


def _run(
    found: dict[str, Any],
    data: ClickData,
    spec: MethodSpec,
    settings: Settings,
    seed: int,
    progress: Progress | None,
    measured: Measured | None,
    keeper: Keeper | None,
    counts: Callable[[Mapping[str, float]], bool] | None,
    partial: Partial | None,
) -> np.ndarray:
    """Fills in fields of the run as they become known; gives the test probabilities."""
    tables = build_tables(data, spec, settings, seed)
    found["backend"] = tables.backend
    found["tables"] = tuple(
        TableRecord(
            feature=config.name,
            num_embeddings=config.num_embeddings,
            embedding_dim=table.embedding_dim,
            method=table.spec_name,
            knobs=knobs_of(table),
            modifiers=tuple(table.modifiers),
            serving_bytes=size,
            full_bytes=4 * config.num_embeddings * settings.width,
            row0_share=float(share),
            is_full=table.tags.plain and not table.modifiers,
        )
        for config, table, size, share in zip(tables.configs, tables.tables, tables.table_bytes(), data.row0_share)
    )
    largest = max(tables.tables, key=lambda table: (table.spec_name == spec.name, table.num_embeddings))
    found["knobs"] = knobs_of(largest)
    ledger = tables.ledger(settings.optimizer, settings.batch_size)
    metrics: dict[str, float] = {
        "serving_bytes": ledger.serving_bytes,
        "full_bytes": tables.full_bytes,
        "training_bytes": ledger.training_bytes,
        "ratio": tables.full_bytes / ledger.serving_bytes,
    }
    found["metrics"] = metrics
    model = build_model(data, tables, settings, seed)
    reset_device_peak(settings.device)
    best = BestEpoch(keeper)
    try:
        if settings.processes > 1:
            trained = together.train(together.Training(spec, settings, seed), model, data, progress, best, partial)
        elif shardable(tables.groups):
            trained = together.train_alone(model, data, settings, seed, progress, best)
        else:
            trained = train(model, data, settings, seed, progress, best, partial)
    finally:
        found["tables"] = best.told(found["tables"])
    metrics |= trained.metrics
    found["resumed"] = trained.resumed
    device_peak = device_peak_bytes(settings.device)
    if device_peak is not None:
        metrics["peak_device_bytes"] = device_peak
    found["learning_curve"] = tuple(typed(CurvePoint, point) for point in trained.curve)
    found["served"] = tuple(typed(ServedPoint, point) for point in trained.served)
    hit_rate = cache_hit_rate(tables, data.test)
    if hit_rate is not None:
        metrics["cache_hit_rate"] = hit_rate
    assert trained.test_logits is not None  # train() predicts the test part in every run that ends
    predictions: np.ndarray = probabilities(trained.test_logits).numpy()
    if counts is not None and not counts(metrics):
        return predictions
    found["by_frequency"] = by_frequency(data, settings, trained.test_logits)
    # once, of the last epoch: which cells make a row changes in few methods, and counting them takes a while
    shared = sharing(model.tables, data.counts, count_lookups(data.test, data.num_embeddings))
    found["tables"] = tuple(replace(table, sharing=one) for table, one in zip(found["tables"], shared))
    other = measured() if measured else None
    metrics |= measure_latency(model, tables, data, settings, progress) if other is None else other.latency
    found["latency_of_seed"] = seed if other is None else other.seed
    metrics["peak_memory_bytes"] = peak_memory(model, data, settings)
    return predictions


def sharing(tables: TableCollection, train: Sequence[Tensor], test: Sequence[Tensor]) -> list[Sharing | None]:
    """How the ids of each table share what is stored as the tables are now, to six decimals: see `collisions`."""
    was = tables.training
    try:
        found = collisions(list(tables.eval().tables), train, test)
    except Exception:  # it is told beside what was trained: no plug-in, and no lack of memory, may cost the run
        return [None] * len(tables.tables)
    finally:
        tables.train(was)
    return [None if one is None else replace(one, **_rounded(vars(one))) for one in found]


def by_frequency(data: ClickData, settings: Settings, logits: Tensor) -> tuple[FrequencyBin, ...]:
    """Scores of the test part by how frequent the ids of the features are that these settings compress."""
    keep = kept_full(table_configs(data, settings.width), settings.min_rows, settings.largest)
    bins = Frequencies.of(data, [f for f, full in enumerate(keep) if not full])
    scored = [] if bins is None else bins.scores(logits, data.test.labels)
    return tuple(typed(FrequencyBin, {**one, **_rounded(one)}) for one in scored)


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of shares and scores six decimals: a record stays small."""
    return {name: round(value, 6) for name, value in values.items() if isinstance(value, float)}


def measure_latency(
    model: ClickModel, tables: TableCollection, data: ClickData, settings: Settings, progress: Progress | None = None
) -> dict[str, float]:
    """The metrics that belong to a method with its knobs: seconds to fold, latency of lookups and of the model."""
    if progress:
        progress(0, 0, "measuring latency")
    start = time.perf_counter()
    folded = tables.fold()
    Clock(settings.device).wait()
    seconds = time.perf_counter() - start
    return {"fold_seconds": seconds, **measure(model, folded, data.train.dense.shape[1], settings.latency_seconds)}


def peak_memory(model: ClickModel, data: ClickData, settings: Settings) -> int:
    """Peak bytes of training: parameters, buffers and optimizer state, and what one step adds to them at its peak.

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


def knobs_of(table: Compressor) -> dict[str, Any]:
    """Knobs as JSON scalars; shapes as `200x220x250`."""
    knobs = table.knobs().items()
    return {key: "x".join(map(str, value)) if isinstance(value, (tuple, list)) else value for key, value in knobs}
