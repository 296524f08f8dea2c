"""What the runs of a comparison would take, before any of them: bytes exactly, times from a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embpress.compressors import BudgetError, InputError, MethodSpec, TableCollection
from embpress.compressors.tables.serving import fold_steps
from embpress.dlrm.data import ClickData
from embpress.dlrm.measure.memory import free_bytes
from embpress.dlrm.runs.comparable import check_comparable
from embpress.dlrm.runs.compare import stands, todo_of
from embpress.dlrm.runs.experiment import build_model, build_tables
from embpress.dlrm.runs.record import Asked, Run
from embpress.dlrm.runs.rehearsal import Rehearsal, rehearse
from embpress.dlrm.runs.shelf import held, measured_before
from embpress.dlrm.runs.sweep import Todo, every_size
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.tuning import parse

BUILT_BYTES = 2 << 30  # tables that take more to train are not built, and their steps not timed


@dataclass(frozen=True)
class Sizes:
    """Bytes and floating point operations of one method at one size.

    Attributes:
        full_bytes, serving_bytes, training_bytes: as the record of the run holds them.
        folding_bytes: the weights as they are trained and what is served of them, where folding makes something else of
            them: both are there when it ends. What fitting takes besides, some MB at a time, is not in it.
        step_flops: of the linear layers of the click model in one training step, `3 · batch · Σ 2 · in · out`.
    """

    full_bytes: int
    serving_bytes: int
    training_bytes: int
    folding_bytes: int
    step_flops: int

    @property
    def ratio(self) -> float:
        """Full bytes / serving bytes."""
        return self.full_bytes / self.serving_bytes


@dataclass(frozen=True)
class Estimate:
    """One method at one size.

    Attributes:
        method, asked: as in the record.
        runs: how many are asked for, one a seed.
        present: how many of them are there, and are not run again.
        sizes: None where the size cannot be reached.
        times: None where nothing is to be run, or where the tables are too large to be built for a few steps.
        trials: how many are to be made before its runs, at most; the one that is chosen is a run.
        seconds: of all its trials and runs that are to be made; None where that is unknown.
        reason: why there are no sizes, or no times; empty where there are.
    """

    method: str
    asked: Asked
    runs: int
    present: int
    sizes: Sizes | None = None
    times: Rehearsal | None = None
    trials: int = 0
    seconds: float | None = None
    reason: str = ""

    @property
    def missing(self) -> int:
        """How many runs are to be made."""
        return self.runs - self.present


def estimate(
    data: ClickData,
    methods: Sequence[MethodSpec],
    settings: Settings,
    seeds: Sequence[int],
    folder: Path,
    sizes: Sequence[Asked] = (),
    keep_weights: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Estimate]:
    """What `compare` with the same arguments would do, method by method; it writes nothing.

    Args:
        folder: run folder, which need not be there.
        progress: told which method is looked at.

    Raises:
        InputError: the folder holds damaged records or runs that cannot be compared with these.
    """
    every = every_size(methods, settings, sizes)
    todo = todo_of(data, every, seeds)
    runs, _ = held(folder)
    check_comparable([*runs.values(), todo[0].about], folder)
    for n, (spec, of_size) in enumerate(every):
        own = todo[n :: len(every)]
        if progress is not None:
            progress(own[0].title.rpartition(" · ")[0])
        ready = [one.about.id in runs and stands(folder, keep_weights, runs[one.about.id]) for one in own]
        yield _estimate(data, spec, of_size, own, sum(ready), list(runs.values()))


def _estimate(
    data: ClickData, spec: MethodSpec, settings: Settings, own: Sequence[Todo], present: int, runs: Sequence[Run]
) -> Estimate:
    about = own[0].about
    found = Estimate(about.method, about.asked, len(own), present)
    trials = 0
    if settings.tune and not present:  # what has run is tuned
        trials = parse(settings.tune, settings.learning_rate).trials
    try:
        sketch = build_tables(data, spec, settings, 0, device="meta")
    except (BudgetError, InputError) as error:
        return replace(found, reason=str(error), seconds=0.0)
    found = replace(found, trials=trials)
    if not found.missing:
        return replace(found, sizes=_sizes(data, _unfilled(sketch, settings), settings), seconds=0.0)
    needed = sketch.ledger(settings.optimizer, settings.batch_size).training_bytes
    room = min(BUILT_BYTES, free_bytes(settings.device) // 2)
    if needed > room:
        why = f"not timed: to train its tables takes {needed / 1e9:,.1f} GB, more than are built for a few steps"
        return replace(found, sizes=_sizes(data, _unfilled(sketch, settings), settings), reason=why)
    began = time.perf_counter()
    tables = build_tables(data, spec, settings, 0)
    build_seconds = time.perf_counter() - began
    made = _sizes(data, tables, settings)
    try:
        times = rehearse(tables, data, settings, build_seconds)
    except (MemoryError, RuntimeError, InputError) as error:  # as the run itself would fail
        return replace(found, sizes=made, reason=f"a step fails: {str(error).strip().splitlines()[0]}")
    measured = measured_before(about, runs) is not None
    seconds = (found.missing + max(0, trials - 1)) * times.run_seconds + (0.0 if measured else times.once_seconds)
    return replace(found, sizes=made, times=times, seconds=seconds)


def _unfilled(sketch: TableCollection, settings: Settings) -> TableCollection:
    """The tables on their device, of memory that nobody touches: what a batch keeps depends on what answers there."""
    try:
        made: TableCollection = sketch.to_empty(device=settings.device)
    except RuntimeError:  # more than can be asked for
        return sketch
    return made


def _sizes(data: ClickData, tables: TableCollection, settings: Settings) -> Sizes:
    ledger = tables.ledger(settings.optimizer, settings.batch_size)
    weights = sum(tensor.nbytes for tensor in [*tables.parameters(), *tables.buffers()])
    changed = bool(fold_steps(tables.tables))
    flops = build_model(data, tables, settings, 0).dense_flops()
    return Sizes(
        full_bytes=tables.full_bytes,
        serving_bytes=ledger.serving_bytes,
        training_bytes=ledger.training_bytes,
        folding_bytes=weights + ledger.serving_bytes if changed else max(weights, ledger.serving_bytes),
        step_flops=3 * settings.batch_size * flops,
    )
