"""Training a DLRM on one method and one seed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from embpress.compressors.maintenance import reset_state
from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.evaluate import inputs_of, predict, scores
from embpress.dlrm.model import DLRM
from embpress.dlrm.optim import make_optimizers
from embpress.dlrm.settings import Settings

# points of the learning curve in an epoch; the last is the epoch's end
POINTS = 4
Progress = Callable[[int, int, str], None]  # samples done, samples in all, what is going on


class RunFailed(Exception):
    """A run that cannot go on; its message becomes the row's reason."""


@dataclass
class Trained:
    """What training gives.

    Attributes:
        metrics: auc, auc_last, valid_auc, log_loss, accuracy, best_epoch, step_ms, train_seconds, train_samples_per_s.
        curve: points of step, epoch, train_loss, valid_auc, valid_log_loss.
        test_logits: `(N,)` at the epoch with the best validation AUC.
    """

    metrics: dict[str, float]
    curve: list[dict[str, float]] = field(default_factory=list)
    test_logits: Tensor | None = None


def batches(part: Part, size: int) -> Iterator[Part]:
    """Consecutive slices of a part; views, nothing is copied."""
    for start in range(0, len(part), size):
        yield part.slice(start, min(start + size, len(part)))


def train(model: DLRM, data: ClickData, settings: Settings, seed: int, progress: Progress | None = None) -> Trained:
    """Trains and scores a model.

    The seed alone fixes the order of the samples. Validation AUC chooses the epoch whose test scores are reported; the
    test part decides nothing.

    Raises:
        RunFailed: the loss is no finite number.
    """
    order = Generator().manual_seed(seed)
    optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
    rows, steps_an_epoch = len(data.train), -(-len(data.train) // settings.batch_size)
    points = {max(1, round(steps_an_epoch * (k + 1) / POINTS)) for k in range(POINTS)}
    result = Trained({})
    best = -1.0
    times: list[float] = []
    step, seconds, loss_sum, loss_steps = 0, 0.0, torch.zeros(()), 0
    model.train()
    for epoch in range(settings.epochs):
        start = time.perf_counter()
        shuffled = data.train.take(torch.randperm(rows, generator=order))
        seconds += time.perf_counter() - start
        for index, batch in enumerate(batches(shuffled, settings.batch_size), 1):
            start = time.perf_counter()
            loss = F.binary_cross_entropy_with_logits(model(batch.dense, inputs_of(batch)), batch.labels)
            loss.backward()
            reset_state(model.tables.maintain(step), optimizers)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            times.append(time.perf_counter() - start)
            step, loss_sum, loss_steps = step + 1, loss_sum + loss.detach(), loss_steps + 1
            if progress:
                progress(epoch * rows + index * settings.batch_size, settings.epochs * rows, "training")
            if index not in points:
                continue
            if not torch.isfinite(loss_sum):
                raise RunFailed(f"the loss is {float(loss_sum)} by step {step}; a smaller learning rate may help")
            valid = scores(predict(model, data.valid), data.valid.labels)
            result.curve.append(
                {
                    "step": step,
                    "epoch": epoch + index / steps_an_epoch,
                    "train_loss": float(loss_sum) / loss_steps,
                    "valid_auc": valid["auc"],
                    "valid_log_loss": valid["log_loss"],
                }
            )
            loss_sum, loss_steps = torch.zeros(()), 0
        # NaN, where validation has one class only, chooses nothing: the last epoch then counts
        improved, last = not valid["auc"] <= best, epoch == settings.epochs - 1
        if improved or last:
            logits = predict(model, data.test)
            test = scores(logits, data.test.labels)
        if improved:
            best = valid["auc"]
            result.test_logits = logits
            result.metrics |= {**test, "valid_auc": best, "best_epoch": epoch + 1}
        if last:
            result.metrics["auc_last"] = test["auc"]
    seconds += sum(times)
    result.metrics |= {
        "step_ms": 1e3 * statistics.median(times),
        "train_seconds": seconds,
        "train_samples_per_s": settings.epochs * rows / seconds,
    }
    return result
