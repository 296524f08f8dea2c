"""Several methods and seeds on one data set, into one folder; a killed comparison goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embpress.compressors import MethodSpec
from embpress.dlrm.data import ClickData
from embpress.dlrm.data.hot_rows import hot_rows
from embpress.dlrm.runs import checkpoint, store
from embpress.dlrm.runs.checkpoint import Keeper, checkpoint_of, checkpoint_path
from embpress.dlrm.runs.comparable import check_comparable
from embpress.dlrm.runs.experiment import describe_data, describe_run, plan_tables, run
from embpress.dlrm.runs.record import Asked, Run
from embpress.dlrm.runs.sweep import Todo, every_size
from embpress.dlrm.training.loop import Progress
from embpress.dlrm.training.settings import Settings

Done = tuple[Run, np.ndarray | None]  # a run and its test probabilities


class Step(NamedTuple):
    """One finished run of a comparison."""

    run: Run
    kept: bool  # it was there already
    number: int
    total: int


def compare(
    data: ClickData,
    methods: Sequence[MethodSpec],
    settings: Settings,
    seeds: Sequence[int],
    folder: Path,
    command: str = "",
    progress: Callable[[int, int, str], Progress] | None = None,
    keep_weights: bool = False,
    sizes: Sequence[Asked] = (),
) -> Iterator[Step]:
    """Runs every method at every size with every seed, seed by seed, and saves a record after each.

    Runs that finished before, in this folder and with the same data, settings, method, size and seed, are kept; failed
    ones are tried again. Latency is measured by the first seed of a method and size that finishes.

    Args:
        progress: makes the progress callback of run `number` of `total` with a title.
        keep_weights: write each run's trained weights as well (`checkpoint`); a run that finished before without
            keeping them is trained again.
        sizes: see `every_size`.

    Raises:
        InputError: the folder cannot be written or holds damaged records or runs that cannot be compared with these.
    """
    todo = todo_of(data, every_size(methods, settings, sizes), seeds, command)
    hot: dict[str, Any] = {}

    def execute(one: Todo, progress: Progress | None, measured: Run | None) -> Done:
        if not hot:  # once for all runs: it depends on the data alone
            if progress:
                progress(0, 0, "counting hot rows")
            hot.update(hot_rows(data))
        keeper = Keeper() if keep_weights else None
        keep = None if keeper is None else keeper.take
        made, predictions = run(data, one.spec, one.settings, one.seed, command, progress, measured, keep)
        made = replace(made, data=replace(made.data, hot_rows=hot))
        if keeper is not None and predictions is not None:
            tables = plan_tables(data, one.spec, one.settings)
            kept = checkpoint_of(made, tables, one.settings, data, keeper.weights, predictions)
            checkpoint.save(checkpoint_path(folder, made), kept)
        return made, predictions

    yield from finish(todo, execute, folder, progress, partial(stands, folder, keep_weights))


def todo_of(
    data: ClickData, methods: Sequence[tuple[MethodSpec, Settings]], seeds: Sequence[int], command: str = ""
) -> list[Todo]:
    """The runs that a comparison asks for, seed by seed."""
    described = describe_data(data)
    return [
        Todo(spec, settings, seed, describe_run(data, spec, settings, seed, command, described))
        for seed in seeds
        for spec, settings in methods
    ]


def stands(folder: Path, keep_weights: bool, done: Run) -> bool:
    """Whether a run of before need not be done again: it ended well, and its weights are there where they are kept."""
    return done.ok and (not keep_weights or checkpoint_path(folder, done).exists())


def finish(
    todo: Sequence[Todo],
    execute: Callable[[Todo, Progress | None, Run | None], Done],
    folder: Path,
    progress: Callable[[int, int, str], Progress] | None = None,
    stands: Callable[[Run], bool] = lambda done: done.ok,
) -> Iterator[Step]:
    """Executes the runs that a folder does not hold yet, and saves each: see `compare`.

    Args:
        todo: the runs asked for.
        execute: makes one; the last argument is a run whose latency stands for this one too.
        stands: whether a run of before need not be done again.
    """
    total = len(todo)
    store.clean(folder / "records", folder / "weights")
    runs, paths = held(folder)
    check_comparable([*runs.values(), todo[0].about], folder)
    for number, one in enumerate(todo, 1):
        done = runs.get(one.about.id)
        if done is not None and stands(done):
            yield Step(done, True, number, total)
            continue
        callback = progress(number, total, one.title) if progress else None
        result, predictions = execute(one, callback, measured_before(one.about, runs.values()))
        written = store.save(folder, result, predictions)
        for path in paths.pop(result.id, []):
            if path != written:
                path.unlink(missing_ok=True)
        runs[result.id] = result
        yield Step(result, False, number, total)


def held(folder: Path) -> tuple[dict[str, Run], dict[str, list[Path]]]:
    """The runs that a folder holds, by id, one that ended well before one that did not, and the files of each."""
    runs: dict[str, Run] = {}
    paths: dict[str, list[Path]] = {}  # a record of an earlier version has another file name
    for path in store.record_paths(folder):
        kept = store.read(path)
        paths.setdefault(kept.id, []).append(path)
        if kept.ok or kept.id not in runs:
            runs[kept.id] = kept
    return runs, paths


def measured_before(about: Run, runs: Iterable[Run]) -> Run | None:
    """Another seed of the same method, on the same machine with the same software, that measured its latency."""
    return next(
        (
            other
            for other in runs
            if other.ok
            and other.latency_of_seed == other.seed
            and other.without_seed == about.without_seed
            and other.environment == about.environment
        ),
        None,
    )
