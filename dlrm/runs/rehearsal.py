"""A few timed steps of a model that is really built: what a run would take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from embpress.compressors import TableCollection, begin_training
from embpress.compressors.tables.serving import fold_steps
from embpress.dlrm.data import ClickData
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.measure.latency import BATCHES
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.runs.experiment import build_model
from embpress.dlrm.training.evaluate import predict
from embpress.dlrm.training.loop import POINTS
from embpress.dlrm.training.optim import make_optimizers
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.training.step import train_step

STEP_SECONDS, MAX_STEPS = 0.7, 20  # of training steps, and how many of them at most
FOLD_SECONDS = 0.4  # of folding tables
SCORED_ROWS = 2048


@dataclass(frozen=True)
class Rehearsal:
    """What a run takes.

    Attributes:
        step_ms: median of the timed training steps.
        run_seconds: of a whole run: building, training, the scores of validation and test part.
        once_seconds: of what one seed measures for all: folding and latency.
    """

    step_ms: float
    run_seconds: float
    once_seconds: float


def rehearse(tables: TableCollection, data: ClickData, settings: Settings, build_seconds: float) -> Rehearsal:
    """Trains a few steps and scores a few rows, within about two seconds where one step takes less than that.

    What happens now and then in training, such as the clustering of CCE or the first fill of a cache, is not in it. The
    test part is scored once an epoch, as if every epoch were the best so far.

    Args:
        tables: those of a run; they are trained on.
        data: of which the first rows are taken, in their order.
        build_seconds: that the tables took.
    """
    began = time.perf_counter()
    model = build_model(data, tables, settings, 0)
    build_seconds += time.perf_counter() - began
    steps = -(-len(data.train) // settings.batch_size)
    begin_training(model, max(1, steps * settings.epochs), settings.epochs)
    step = _step_seconds(model.train(), data, settings)
    part = data.valid if len(data.valid) else data.train
    rows = part.slice(0, min(SCORED_ROWS, len(part)))
    score = min(_timed(partial(predict, model, rows)) for _ in range(2)) / max(1, len(rows))
    serving = len(fold_steps(tables.tables))
    fold = _fold_seconds(tables) if serving else 0.0
    scored = POINTS * len(data.valid) + (1 + serving) * len(data.test)
    epoch = steps * step + scored * score + serving * fold
    latency = 2 * len(BATCHES) * settings.latency_seconds
    return Rehearsal(1e3 * step, build_seconds + settings.epochs * epoch, fold + latency)


def _step_seconds(model: ClickModel, data: ClickData, settings: Settings) -> float:
    """The median step, after the first, which makes the optimizer's state."""
    clock = Clock(model.device)
    optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
    size, rows = settings.batch_size, len(data.train)
    times: list[float] = []
    end = time.perf_counter() + STEP_SECONDS
    while len(times) < 2 or (len(times) <= MAX_STEPS and time.perf_counter() < end):
        first = len(times) * size % max(1, rows - size + 1)
        batch = data.train.slice(first, min(first + size, rows)).to(model.device)
        times.append(clock.seconds(partial(train_step, model, optimizers, batch, len(times))))
    return statistics.median(times[1:])


def _fold_seconds(tables: TableCollection) -> float:
    """Seconds to fold all tables, from the smallest of them up to as many as there is time for.

    A table takes as long as the smallest half of those did, and what the largest of them took beyond that in proportion
    to its rows. Tables that share their memory are folded by any one of them.
    """
    order = sorted(tables.tables, key=lambda table: table.num_embeddings)
    if order[-1].tags.shared_memory:
        return _timed(order[-1].fold)
    times: list[float] = []
    end = time.perf_counter() + FOLD_SECONDS
    for table in order:
        times.append(_timed(table.fold))
        if time.perf_counter() > end:
            break
    each = statistics.median(times[: max(1, len(times) // 2)])
    a_row = max(0.0, times[-1] - each) / order[len(times) - 1].num_embeddings
    return sum(times) + sum(each + a_row * table.num_embeddings for table in order[len(times) :])


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
