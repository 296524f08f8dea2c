"""One run with the user's model: a method and a seed, from building the model to the record."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embpress.compressors import Compressor, InputError, MethodSpec, TableConfig, compress_model, maintain
from embpress.compressors.tables.whole_model import served_model
from embpress.dlrm.measure.environment import environment
from embpress.dlrm.measure.memory import device_peak_bytes, peak_bytes, reset_device_peak, resident_bytes
from embpress.dlrm.runs.experiment import Measured, asked_size, attempt, knobs_of, method_generator
from embpress.dlrm.runs.partial import Partial
from embpress.dlrm.runs.record import (
    LOADERS,
    Asked,
    CurvePoint,
    DataRecord,
    Run,
    ServedPoint,
    TableRecord,
    fingerprint,
    typed,
)
from embpress.dlrm.training.evaluate import Tested, probabilities, scores, tested
from embpress.dlrm.training.loop import Progress, fit
from embpress.dlrm.training.optim import make_optimizers
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.training.state import random_state, restore, set_random_state, state_of
from embpress.dlrm.tuning import protocol_rate
from embpress.dlrm.user_model.loaders import (
    fingerprint_of,
    kept_random_state,
    reseed,
    rows_of,
    seed_all,
    steps_of,
    to_device,
    without_last_tenth,
)
from embpress.dlrm.user_model.tables import (
    KINDS,
    backend_of,
    compressed,
    counted_lookups,
    embeddings,
    latency_of,
    ledger_of,
)
from embpress.dlrm.user_model.task import Task
from embpress.kernels.errors import EmbpressError


@dataclass(frozen=True)
class Prepared:
    """A task whose model has been tried on a batch, and whose data have been looked at.

    Attributes:
        train, valid: batches; those of validation are not in `train`.
        configs: the tables of the plain model, by the names of their modules.
        lookups: ids that a batch looks up in each table, where that could be counted.
        simple: whether all tables do nothing but look up and pool.
        data, model: as the record holds them.
    """

    task: Task
    train: Any
    valid: Any
    configs: tuple[TableConfig, ...]
    lookups: dict[str, int]
    simple: bool
    data: DataRecord
    model: dict[str, Any]

    @property
    def full_bytes(self) -> int:
        """`Σ 4·n·D` of all tables."""
        return sum(4 * config.num_embeddings * config.embedding_dim for config in self.configs)


def prepare(task: Task, settings: Settings) -> Prepared:
    """Tries the plain model on a batch, cuts validation off where none is given, and reads the test part once.

    Raises:
        InputError: a model without tables, one that does not take its batches, or a loader that cannot be cut.
    """
    with kept_random_state():
        train, valid = (task.train_loader, task.valid_loader)
        if valid is None:
            train, valid = without_last_tenth(train)
        reseed(train, 0)
        batch = next(iter(train), None)
        if batch is None:
            raise InputError(f"the train_loader of {task.name} gives no batch")
        seed_all(0)
        try:
            model = task.model_fn().to(settings.device)
            with counted_lookups(model) as lookups, torch.no_grad():
                task.score(model.eval(), to_device(batch, settings.device))
        except EmbpressError:
            raise
        except Exception as error:  # whatever is in the user's model
            what = f"{type(error).__name__}: {error}"
            raise InputError(
                f"{task.name} does not take the first batch of its train_loader ({what}); a tuple of inputs is given "
                "as model(*inputs), a score of your own takes any batch"
            ) from error
        tables = embeddings(model)
        if not tables:
            raise InputError(f"{task.name} has no nn.Embedding and no nn.EmbeddingBag")
        data_fingerprint = fingerprint_of(train, valid, task.test_loader)
    own = {id(module.weight) for module in tables.values()}
    loaders = {"train": train, "valid": valid, "test": task.test_loader}
    cut = task.valid_loader is None
    return Prepared(
        task,
        train,
        valid,
        tuple(TableConfig(module.num_embeddings, module.embedding_dim, name) for name, module in tables.items()),
        lookups,
        all(type(module) in KINDS and module.max_norm is None for module in tables.values()),
        DataRecord(
            name=task.name,
            format=LOADERS,
            fingerprint=data_fingerprint,
            rows={part: n for part, loader in loaders.items() if (n := rows_of(loader, task.samples))},
            features=tuple(tables),
            num_embeddings=tuple(module.weight.shape[0] for module in tables.values()),
            dense=(),
            split="the test part has a loader of its own"
            + ("" if cut else ", and so has the validation part, which chooses the epoch"),
            about={"valid_split": "order"} if cut else {},
        ),
        {
            "name": task.name,
            "dense_parameters": sum(p.numel() for p in model.parameters() if id(p) not in own),
            "structure": fingerprint([[name, list(tensor.shape)] for name, tensor in model.state_dict().items()]),
            "min_rows": settings.min_rows,
            "largest": settings.largest,
        },
    )


def describe_run(prepared: Prepared, spec: MethodSpec, settings: Settings, seed: int, command: str) -> Run:
    """What of a run is known before it; it stands as failed."""
    size = getattr(prepared.train, "batch_size", None)
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
        data=prepared.data,
        model=prepared.model,
        training={
            "optimizer": settings.optimizer,
            "learning_rate": protocol_rate(settings),
            **({} if size is None else {"batch_size": size}),
            "epochs": settings.epochs,
            **prepared.task.changes,
        },
        environment=environment(settings.device),
        backend="torch",
        device=settings.device,
        command=command,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def run(
    prepared: Prepared,
    spec: MethodSpec,
    settings: Settings,
    seed: int,
    command: str = "",
    progress: Progress | None = None,
    measured: Measured | None = None,
    keep_labels: Callable[[np.ndarray], None] | None = None,
    counts: Callable[[Mapping[str, float]], bool] | None = None,
    partial: Partial | None = None,
) -> tuple[Run, np.ndarray | None]:
    """Trains and measures one method with one seed: see `runs.experiment.run`. What the model raises is a failure.

    `keep_labels` is given the test labels `(N,)`, in the order of the probabilities.
    """
    about = describe_run(prepared, spec, settings, seed, command)

    def work(found: dict[str, Any]) -> np.ndarray:
        def once() -> np.ndarray:
            found.clear()
            return _run(found, prepared, spec, settings, seed, progress, measured, keep_labels, counts, partial)

        with kept_random_state():
            if partial is None:
                return once()
            partial.begin(about)
            return partial.tried(once)

    return attempt(about, prepared.full_bytes, work, (Exception,))


def _run(
    found: dict[str, Any],
    prepared: Prepared,
    spec: MethodSpec,
    settings: Settings,
    seed: int,
    progress: Progress | None,
    measured: Measured | None,
    keep_labels: Callable[[np.ndarray], None] | None,
    counts: Callable[[Mapping[str, float]], bool] | None,
    partial: Partial | None,
) -> np.ndarray:
    """Fills in fields of the run as they become known; gives the test probabilities."""
    seed_all(seed)  # the same dense weights for every method, which draws from a generator of its own
    model = prepared.task.model_fn().to(settings.device)
    done = compress_model(
        model,
        spec,
        ratio=settings.ratio,
        budget=settings.budget,
        min_rows=settings.min_rows,
        largest=settings.largest,
        generator=method_generator(seed),
    )
    sizes = dict(zip(done["module"], done["bytes_after"].astype(int)))
    tables = compressed(model, [config.name for config in prepared.configs])
    found["backend"] = backend_of(list(tables.values()))
    found["tables"] = tuple(
        TableRecord(
            feature=config.name,
            num_embeddings=config.num_embeddings,
            embedding_dim=table.embedding_dim,
            method=table.spec_name,
            knobs=knobs_of(table),
            modifiers=tuple(table.modifiers),
            serving_bytes=int(sizes[config.name]),
            full_bytes=4 * config.num_embeddings * config.embedding_dim,
            is_full=table.tags.plain and not table.modifiers,
        )
        for config, table in zip(prepared.configs, tables.values())
    )
    found["knobs"] = knobs_of(max(tables.values(), key=lambda t: (t.spec_name == spec.name, t.num_embeddings)))
    ledger = ledger_of(tables, settings.optimizer, prepared.lookups)
    metrics: dict[str, float] = {
        "serving_bytes": ledger.serving_bytes,
        "full_bytes": prepared.full_bytes,
        "ratio": prepared.full_bytes / ledger.serving_bytes,
    }
    if set(tables) <= set(prepared.lookups):
        metrics["training_bytes"] = ledger.training_bytes
    found["metrics"] = metrics
    work = _UserWork(prepared, model, list(tables.values()), settings, seed)
    reset_device_peak(settings.device)
    trained = fit(work, settings.epochs, progress, saved=partial)
    metrics |= trained.metrics
    found["resumed"] = trained.resumed
    device_peak = device_peak_bytes(settings.device)
    if device_peak is not None:
        metrics["peak_device_bytes"] = device_peak
    found["learning_curve"] = tuple(typed(CurvePoint, point) for point in trained.curve)
    found["served"] = tuple(typed(ServedPoint, point) for point in trained.served)
    assert trained.test_logits is not None  # `fit` scores the test part in every run that ends
    predictions: np.ndarray = probabilities(trained.test_logits).numpy()
    if counts is not None and not counts(metrics):
        return predictions
    other = measured() if measured else None
    if other is None:
        if progress:
            progress(0, 0, "measuring latency")
        if prepared.simple:
            metrics |= latency_of(tables, prepared.full_bytes, settings.latency_seconds)
    else:
        metrics |= other.latency
    found["latency_of_seed"] = seed if other is None else other.seed
    metrics["peak_memory_bytes"] = work.peak_memory()
    if keep_labels is not None and work.test_labels is not None:
        keep_labels(work.test_labels.to(torch.int8).numpy())
    return predictions


class _UserWork:
    """The user's model with the user's loaders; the seed alone fixes what random numbers these draw."""

    def __init__(
        self, prepared: Prepared, model: nn.Module, tables: Sequence[Compressor], settings: Settings, seed: int
    ) -> None:
        self.tables = tables
        self.prepared, self.task, self.model, self.seed = prepared, prepared.task, model, seed
        self.device, self.settings = torch.device(settings.device), settings
        self.optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
        self.rows, self.steps = prepared.data.rows.get("train", 0), steps_of(prepared.train)
        self.test_labels: Tensor | None = None
        self._random: dict[str, Any] | None = None  # where random numbers go on, once
        self.maintained = any(isinstance(m, Compressor) and m.tags.maintain for m in model.modules())

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Any, int]]:
        reseed(self.prepared.train, self.seed, epoch)
        source = iter(self.prepared.train)
        for _ in islice(source, first):  # nobody but the loader knows how to begin elsewhere
            pass
        if self._random is not None:
            set_random_state(self._random, self.device)
            self._random = None
        for batch in source:
            yield to_device(batch, self.device), self.task.samples(batch)

    def step(self, batch: Any, number: int) -> Tensor:
        loss = self.task.loss_of(self.model, batch)
        loss.backward()
        if self.maintained:
            maintain(self.model, *self.optimizers, step=number)
        self._update()
        return loss.detach()

    def _update(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        return {**state_of(self.model, self.optimizers), "random": random_state(self.device)}

    def restore(self, state: dict[str, Any]) -> None:
        restore(self.model, self.optimizers, state)
        self._random = state["random"]

    def valid(self) -> dict[str, float]:
        return scores(*self._scored(self.model, self.prepared.valid))

    def test(self) -> Tested:
        def score(steps: int | None) -> tuple[Tensor, dict[str, float]]:
            with nullcontext(self.model) if steps is None else served_model(self.model, steps) as model:
                logits, labels = self._scored(model, self.task.test_loader)
            self.test_labels = labels
            if bool((labels == labels[0]).all()):
                raise InputError("the test part has one label alone, and AUC needs both")
            return logits, scores(logits, labels)

        return tested(self.tables, score)

    def _scored(self, model: nn.Module, loader: Any) -> tuple[Tensor, Tensor]:
        """Logits and labels `(N,)` of all batches, in eval mode and without gradients, on the CPU."""
        modes = [(module, module.training) for module in model.modules()]  # the user's own, some may be frozen
        model.eval()
        with torch.no_grad():
            pairs = [self.task.score(model, to_device(batch, self.device)) for batch in loader]
        for module, training in modes:
            module.training = training
        if not pairs:
            raise InputError("there is no batch to score")
        logits, labels = (torch.cat([pair[k].reshape(-1).cpu() for pair in pairs]) for k in (0, 1))
        wrong = labels[(labels != 0) & (labels != 1)]
        if len(wrong):
            raise InputError(f"labels must be 0 or 1, got {wrong[0].item():g}")
        return logits, labels

    def peak_memory(self) -> int:
        """Peak bytes of a training step: see `runs.experiment.peak_memory`. It trains the model on."""
        batch = to_device(next(iter(self.prepared.train)), self.device)

        def step() -> None:
            self.task.loss_of(self.model, batch).backward()
            self._update()

        step()
        return resident_bytes(self.model, self.optimizers) + peak_bytes(step, self.device)
