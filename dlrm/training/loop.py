"""Training: epochs, learning curve, the epoch that counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from embpress.compressors import begin_training
from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.training.evaluate import Tested, predict, scores, tested
from embpress.dlrm.training.optim import make_optimizers
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.training.step import train_step
from embpress.kernels.errors import EmbpressError

# points of the learning curve in an epoch; the last is the epoch's end
POINTS = 4
# samples that are put in order at once: few calls, and never a copy of data that are larger than memory
GATHERED = 1 << 15
Progress = Callable[[int, int, str], None]  # samples done, samples in all, what is going on


class RunFailed(EmbpressError):
    """A run that cannot go on; its message becomes the row's reason."""


@dataclass
class Trained:
    """What training gives.

    Attributes:
        metrics: auc, auc_last, valid_auc, log_loss, accuracy, best_epoch, step_ms, train_seconds, train_samples_per_s;
            auc_trained and log_loss_trained where serving changes lookups.
        curve: points of step, epoch, train_loss, valid_auc, valid_log_loss, of the model as it is trained, and seconds
            of training; test_auc, as served, where an epoch was tested.
        test_logits: `(N,)` of the model as it is served, at the epoch with the best validation AUC.
        served: what each step of folding costs: see `evaluate.Tested`.
    """

    metrics: dict[str, float]
    curve: list[dict[str, float]] = field(default_factory=list)
    test_logits: Tensor | None = None
    served: tuple[dict[str, Any], ...] = ()


def batches(part: Part, size: int) -> Iterator[Part]:
    """Consecutive slices of a part; views, nothing is copied."""
    for start in range(0, len(part), size):
        yield part.slice(start, min(start + size, len(part)))


class Work(Protocol):
    """A model with its data, to be trained.

    Attributes:
        device: of the model.
        rows, steps: samples and batches of an epoch; 0 where nobody knows.
    """

    device: torch.device
    rows: int
    steps: int

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    def batches(self, epoch: int) -> Iterator[tuple[Any, int]]:
        """The batches of an epoch, on the device, and how many samples each has (0 where nobody knows)."""
        ...

    def step(self, batch: Any, number: int) -> Tensor:
        """One training step, the `number`-th from 0: the mean loss before it, a scalar on the device."""
        ...

    def valid(self) -> dict[str, float]:
        """Scores of the validation part by the model as it is trained: see `evaluate.scores`."""
        ...

    def test(self) -> Tested:
        """What the test part says of the model as it is served."""
        ...


class _ClickWork:
    """A click model with click data; the seed alone fixes the order of the samples."""

    def __init__(self, model: ClickModel, data: ClickData, settings: Settings, seed: int) -> None:
        self.model, self.data, self.size, self.device = model, data, settings.batch_size, model.device
        self.order = Generator().manual_seed(seed)
        self.optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
        self.rows = len(data.train)
        self.steps = -(-self.rows // self.size)

    def batches(self, epoch: int) -> Iterator[tuple[Part, int]]:
        order = torch.randperm(self.rows, generator=self.order)
        for some in order.split(max(1, GATHERED // self.size) * self.size):
            for part in batches(self.data.train.take(some), self.size):
                yield part.to(self.device), len(part)

    def step(self, batch: Part, number: int) -> Tensor:
        return train_step(self.model, self.optimizers, batch, number)

    def valid(self) -> dict[str, float]:
        return scores(predict(self.model, self.data.valid), self.data.valid.labels)

    def test(self) -> Tested:
        tables, test = self.model.tables, self.data.test

        def score(steps: int | None) -> tuple[Tensor, dict[str, float]]:
            logits = predict(self.model, test, tables=None if steps is None else tables.fold(steps))
            return logits, scores(logits, test.labels)

        return tested(tables.tables, score)


def train(
    model: ClickModel,
    data: ClickData,
    settings: Settings,
    seed: int,
    progress: Progress | None = None,
    keep: Callable[[ClickModel], None] | None = None,
) -> Trained:
    """Trains and scores a click model: see `fit`; `keep` is given the model."""
    model.train()
    work = _ClickWork(model, data, settings, seed)
    return fit(work, settings.epochs, progress, None if keep is None else partial(keep, model))


def fit(work: Work, epochs: int, progress: Progress | None = None, keep: Callable[[], None] | None = None) -> Trained:
    """Trains and scores a model.

    Validation AUC chooses the epoch whose test scores are reported, those of the model as it is served; the test part
    decides nothing.

    Args:
        keep: called after each epoch that is the best so far, before anything changes the model.

    Raises:
        RunFailed: the loss is no finite number, or there is nothing to train on.
    """
    if work.steps:
        begin_training(work.model, work.steps * epochs, epochs)
    clock = Clock(work.device)
    points = {max(1, round(work.steps * (k + 1) / POINTS)) for k in range(POINTS)} if work.steps else set()
    result = Trained({})
    best = -1.0
    times: list[float] = []
    running: list[Callable[[], float]] = []  # steps whose time is not asked for yet: that would wait for the device
    step, seen, seconds, loss_steps = 0, 0, 0.0, 0
    loss_sum = torch.zeros((), device=work.device)
    for epoch in range(epochs):
        valid: dict[str, float] = {}
        start = time.perf_counter()
        for index, item in enumerate(chain(work.batches(epoch), [None]), 1):
            if item is not None:
                batch, size = item
                loss, taken = clock.start(partial(work.step, batch, step))
                running.append(taken)
                step, seen, loss_sum, loss_steps = step + 1, seen + size, loss_sum + loss, loss_steps + 1
                if progress:
                    progress(seen, epochs * work.rows, "training")
            if not loss_steps or (item is not None and index not in points):
                continue  # no point of the curve, or at the end of the epoch one that is there already
            clock.wait()
            seconds += time.perf_counter() - start
            times += [taken() for taken in running]
            running.clear()
            if not torch.isfinite(loss_sum):
                raise RunFailed(f"the loss is {float(loss_sum)} by step {step}; a smaller learning rate may help")
            valid = work.valid()
            result.curve.append(
                {
                    "step": step,
                    "epoch": epoch + (1 if item is None else index / work.steps),
                    "train_loss": float(loss_sum) / loss_steps,
                    "valid_auc": valid["auc"],
                    "valid_log_loss": valid["log_loss"],
                    "seconds": seconds,
                }
            )
            loss_sum, loss_steps = torch.zeros((), device=work.device), 0
            start = time.perf_counter()
        if not valid:
            raise RunFailed(f"epoch {epoch + 1} had no batch to train on")
        # NaN, where validation has one class only, chooses nothing: the last epoch then counts
        improved, last = not valid["auc"] <= best, epoch == epochs - 1
        if improved or last:
            test = work.test()
            result.curve[-1]["test_auc"] = test.metrics["auc"]
        if improved:
            best = valid["auc"]
            result.test_logits, result.served = test.logits, test.served
            result.metrics |= {**test.metrics, "valid_auc": best, "best_epoch": epoch + 1}
            if keep is not None:
                keep()
        if last:
            result.metrics["auc_last"] = test.metrics["auc"]
    result.metrics |= {"step_ms": 1e3 * statistics.median(times), "train_seconds": seconds}
    if seen:
        result.metrics["train_samples_per_s"] = seen / seconds
    return result
