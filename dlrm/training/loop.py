"""Training: epochs, learning curve, the epoch that counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import chain

import torch

from embpress.compressors import begin_training
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.training.course import Best, Course, Saved, Trained
from embpress.dlrm.training.state import CannotResume
from embpress.dlrm.training.work import Work
from embpress.kernels.errors import EmbpressError, said_by

# points of the learning curve in an epoch; the last is the epoch's end
POINTS = 4
Progress = Callable[[int, int, str], None]  # samples done, samples in all, what is going on


class RunFailed(EmbpressError):
    """A run that cannot go on; its message becomes the row's reason."""


def fit(
    work: Work,
    epochs: int,
    progress: Progress | None = None,
    best: Best | None = None,
    saved: Saved | None = None,
) -> Trained:
    """Trains and scores a model.

    Validation AUC chooses the epoch whose test scores are reported, those of the model as it is served; the test part
    decides nothing.

    Args:
        best: takes what is to be kept of the model after each epoch that is the best so far, before anything changes.
        saved: where the training is kept in between. One that is there is taken up, and ends as if it had never been
            interrupted, bit for bit; the time that keeping takes is no time of training.

    Raises:
        RunFailed: the loss is no finite number, or there is nothing to train on.
        CannotResume: what was saved does not fit; the model has to be built anew.
    """
    if work.steps:
        begin_training(work.model, work.steps * epochs, epochs)
    clock = Clock(work.device)
    points = {max(1, round(work.steps * (k + 1) / POINTS)) for k in range(POINTS)} if work.steps else set()
    course = _taken_up(work, best, saved) or Course(torch.zeros((), device=work.device))
    result = course.result
    running: list[Callable[[], float]] = []  # steps whose time is not asked for yet: that would wait for the device

    def pause(start: float) -> None:
        """Waits for the device, and counts the time since `start` as time of training."""
        clock.wait()
        course.seconds += time.perf_counter() - start
        course.times += [taken() for taken in running]
        running.clear()

    for epoch in range(course.epoch, epochs):
        course.epoch = epoch
        start = time.perf_counter()
        for index, item in enumerate(chain(work.batches(epoch, course.batches), [None]), course.batches + 1):
            if item is not None:
                batch, size = item
                loss, taken = clock.start(partial(work.step, batch, course.step))
                running.append(taken)
                course.loss_sum, course.loss_steps = course.loss_sum + loss, course.loss_steps + 1
                course.batches, course.step, course.seen = index, course.step + 1, course.seen + size
                if progress:
                    progress(course.seen, epochs * work.rows, "training")
            # no point of the curve otherwise, or at the end of the epoch one that is there already
            if course.loss_steps and (item is None or index in points):
                pause(start)
                if not torch.isfinite(course.loss_sum):
                    loss_sum = float(course.loss_sum)
                    raise RunFailed(f"the loss is {loss_sum} by step {course.step}; a smaller learning rate may help")
                _point(work, course, epoch + (1 if item is None else index / work.steps))
                start = time.perf_counter()
            if item is not None and saved is not None and saved.due():
                pause(start)
                saved.save(_state(work, course, best))
                start = time.perf_counter()
        valid = course.valid
        if not valid:
            raise RunFailed(f"epoch {epoch + 1} had no batch to train on")
        # NaN, where validation has one class only, chooses nothing: the last epoch then counts
        improved, last = not valid["auc"] <= course.best, epoch == epochs - 1
        if improved or last:
            test = work.test()
            result.curve[-1]["test_auc"] = test.metrics["auc"]
        if improved:
            course.best = valid["auc"]
            result.test_logits, result.served = test.logits, test.served
            result.metrics |= {**test.metrics, "valid_auc": course.best, "best_epoch": epoch + 1}
            if best is not None:
                best.take(work.model)
        if last:
            result.metrics["auc_last"] = test.metrics["auc"]
        course.batches, course.valid = 0, {}
    result.metrics |= {"step_ms": 1e3 * statistics.median(course.times), "train_seconds": course.seconds}
    if course.seen:
        result.metrics["train_samples_per_s"] = course.seen / course.seconds
    return result


def _point(work: Work, course: Course, epoch: float) -> None:
    """One more point of the learning curve."""
    course.valid = work.valid()
    course.result.curve.append(
        {
            "step": course.step,
            "epoch": epoch,
            "train_loss": float(course.loss_sum) / course.loss_steps,
            "valid_auc": course.valid["auc"],
            "valid_log_loss": course.valid["log_loss"],
            "seconds": course.seconds,
        }
    )
    course.loss_sum, course.loss_steps = torch.zeros((), device=work.device), 0


def _state(work: Work, course: Course, best: Best | None) -> dict[str, object]:
    return {"work": work.state(), "course": course.state(), "best": None if best is None else best.state()}


def _taken_up(work: Work, best: Best | None, saved: Saved | None) -> Course | None:
    """Where a saved training stopped, with model and optimizers as they were then; None where there is none."""
    state = None if saved is None else saved.load()
    if state is None:
        return None
    try:
        course = Course.of(state["course"], work.device)
        work.restore(state["work"])
        if best is not None:
            best.restore(state["best"])
    except (MemoryError, torch.OutOfMemoryError):
        raise  # it fits all the same
    except Exception as error:  # whatever modules, optimizers and torch make of what is not theirs
        raise CannotResume(said_by(error)) from None
    return course
