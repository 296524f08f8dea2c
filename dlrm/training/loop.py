"""Training: epochs, learning curve, the epoch that counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from embpress.compressors import begin_training
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.training.work import Work
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
