"""Several methods and seeds on one data set, into one folder; a killed comparison goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embpress.compressors import MethodSpec
from embpress.dlrm.data import ClickData
from embpress.dlrm.data.hot_rows import hot_rows
from embpress.dlrm.runs import checkpoint, store
from embpress.dlrm.runs.checkpoint import Keeper, checkpoint_of, checkpoint_path
from embpress.dlrm.runs.comparable import check_comparable
from embpress.dlrm.runs.experiment import describe_data, describe_run, plan_tables, run, width_of
from embpress.dlrm.runs.record import Asked, DataRecord, Run
from embpress.dlrm.runs.sweep import Todo, every_size
from embpress.dlrm.runs.trials import SEED, Harness, TrialStep, tune
from embpress.dlrm.training.loop import Progress
from embpress.dlrm.training.settings import Settings

Done = tuple[Run, np.ndarray | None]  # a run and its test probabilities
_HOT_ROWS: dict[str, dict[str, Any]] = {}  # by the data's fingerprint: counted once, however often `compare` is called


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
) -> Iterator[Step | TrialStep]:
    """Runs every method at every size with every seed, seed by seed, and saves a record after each.

    Runs that finished before, in this folder and with the same data, settings, method, size and seed, are kept; failed
    ones are tried again. Latency is measured by the first seed of a method and size that finishes. Where settings say
    how to tune, trials come first: see `trials.tune`.

    Args:
        progress: makes the progress callback of run `number` of `total` with a title.
        keep_weights: write each run's trained weights as well (`checkpoint`); a run that finished before without
            keeping them is trained again.
        sizes: see `every_size`.

    Raises:
        InputError: the folder cannot be written or holds damaged records or runs that cannot be compared with these.
    """
    described = describe_data(data)
    harness = Harness(
        lambda spec, settings: describe_run(data, spec, settings, SEED, command, described),
        lambda spec, settings, callback, counts: run(data, spec, settings, SEED, command, callback, counts=counts),
        lambda spec, settings: width_of(data, spec, settings),
    )
    asked = every_size(methods, settings, sizes)
    choices = yield from tune(asked, harness, folder, progress, reuse=SEED in seeds and not keep_weights)
    todo = todo_of(data, asked, seeds, command, described)
    hot = _HOT_ROWS.setdefault(data.fingerprint, {})

    def execute(one: Todo, progress: Progress | None, measured: Run | None) -> Done:
        if not hot:  # it depends on the data alone
            if progress:
                progress(0, 0, "counting hot rows")
            hot.update(hot_rows(data))
        keeper = Keeper() if keep_weights else None
        keep = None if keeper is None else keeper.take
        choice = choices.of(one.spec, one.settings)
        made, predictions = choice.done(one.seed) or run(
            data, choice.spec, choice.settings, one.seed, command, progress, measured, keep
        )
        made = replace(choice.named(made, one.spec, one.settings), data=replace(made.data, hot_rows=hot))
        if keeper is not None and predictions is not None:
            tables = plan_tables(data, choice.spec, choice.settings)
            kept = checkpoint_of(made, tables, choice.settings, data, keeper.weights, predictions)
            checkpoint.save(checkpoint_path(folder, made), kept)
        return made, predictions

    def good(done: Run) -> bool:
        return choices.agrees(done) and stands(folder, keep_weights, done)

    yield from finish(todo, execute, folder, progress, good, data.test.labels.numpy())


def todo_of(
    data: ClickData,
    methods: Sequence[tuple[MethodSpec, Settings]],
    seeds: Sequence[int],
    command: str = "",
    described: DataRecord | None = None,
) -> list[Todo]:
    """The runs that a comparison asks for, seed by seed; `described` are the data where that has been done."""
    described = described or describe_data(data)
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
    labels: np.ndarray | None = None,
) -> Iterator[Step]:
    """Executes the runs that a folder does not hold yet, and saves each: see `compare`.

    Args:
        todo: the runs asked for.
        execute: makes one; the last argument is a run whose latency stands for this one too.
        stands: whether a run of before need not be done again.
        labels: `(N,)` of the test part, where they are known before a run; the folder keeps them.
    """
    total = len(todo)
    store.clean(folder / "records", folder / "weights")
    runs, paths = held(folder)
    check_comparable([*runs.values(), todo[0].about], folder)
    if labels is not None:
        store.save_labels(folder, todo[0].about.data.fingerprint, labels)
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
