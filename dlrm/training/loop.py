"""Training a click model: epochs, learning curve, the epoch that counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor

from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.training.evaluate import predict, scores
from embpress.dlrm.training.optim import make_optimizers
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.training.step import train_step
from embpress.kernels.errors import EmbpressError

# points of the learning curve in an epoch; the last is the epoch's end
POINTS = 4
Progress = Callable[[int, int, str], None]  # samples done, samples in all, what is going on


class RunFailed(EmbpressError):
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


def train(
    model: ClickModel,
    data: ClickData,
    settings: Settings,
    seed: int,
    progress: Progress | None = None,
    keep: Callable[[ClickModel], None] | None = None,
) -> Trained:
    """Trains and scores a model.

    The seed alone fixes the order of the samples. Validation AUC chooses the epoch whose test scores are reported; the
    test part decides nothing.

    Args:
        keep: called with the model after each epoch that is the best so far, before anything changes it.

    Raises:
        RunFailed: the loss is no finite number.
    """
    order = Generator().manual_seed(seed)
    device, clock = model.device, Clock(model.device)
    optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
    rows, steps_an_epoch = len(data.train), -(-len(data.train) // settings.batch_size)
    points = {max(1, round(steps_an_epoch * (k + 1) / POINTS)) for k in range(POINTS)}
    result = Trained({})
    best = -1.0
    times: list[float] = []
    running: list[Callable[[], float]] = []  # steps whose time is not asked for yet: that would wait for the device
    step, seconds, loss_sum, loss_steps = 0, 0.0, torch.zeros((), device=device), 0
    model.train()
    for epoch in range(settings.epochs):
        start = time.perf_counter()
        shuffled = data.train.take(torch.randperm(rows, generator=order))
        for index, part in enumerate(batches(shuffled, settings.batch_size), 1):
            batch = part.to(device)
            loss, taken = clock.start(partial(train_step, model, optimizers, batch, step))
            running.append(taken)
            step, loss_sum, loss_steps = step + 1, loss_sum + loss, loss_steps + 1
            if progress:
                progress(epoch * rows + index * settings.batch_size, settings.epochs * rows, "training")
            if index not in points:
                continue
            clock.wait()
            seconds += time.perf_counter() - start
            times += [taken() for taken in running]
            running.clear()
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
            loss_sum, loss_steps = torch.zeros((), device=device), 0
            start = time.perf_counter()
        # NaN, where validation has one class only, chooses nothing: the last epoch then counts
        improved, last = not valid["auc"] <= best, epoch == settings.epochs - 1
        if improved or last:
            logits = predict(model, data.test)
            test = scores(logits, data.test.labels)
        if improved:
            best = valid["auc"]
            result.test_logits = logits
            result.metrics |= {**test, "valid_auc": best, "best_epoch": epoch + 1}
            if keep is not None:
                keep(model)
        if last:
            result.metrics["auc_last"] = test["auc"]
    result.metrics |= {
        "step_ms": 1e3 * statistics.median(times),
        "train_seconds": seconds,
        "train_samples_per_s": settings.epochs * rows / seconds,
    }
    return result
