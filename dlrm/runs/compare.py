"""Several methods and seeds on one data set, into one folder; a killed comparison goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embpress.compressors import MethodSpec
from embpress.dlrm.data import ClickData
from embpress.dlrm.data.hot_rows import hot_rows
from embpress.dlrm.runs import checkpoint, store
from embpress.dlrm.runs.checkpoint import Keeper, checkpoint_of, checkpoint_path
from embpress.dlrm.runs.claims import Claims
from embpress.dlrm.runs.comparable import check_comparable
from embpress.dlrm.runs.experiment import Measured, describe_data, describe_run, plan_tables, run, width_of
from embpress.dlrm.runs.partial import Partial, check_minutes, partial_of, tidy
from embpress.dlrm.runs.record import Asked, DataRecord, Run
from embpress.dlrm.runs.shelf import Shelf, measured_before
from embpress.dlrm.runs.sweep import Todo, every_size
from embpress.dlrm.runs.trials import SEED, Harness, TrialStep, tune
from embpress.dlrm.training.loop import Progress
from embpress.dlrm.training.order import window_of
from embpress.dlrm.training.settings import Settings

Done = tuple[Run, np.ndarray | None]  # a run and its test probabilities
Execute = Callable[["Todo", Progress | None, Measured, Partial], Done]
# by the data's fingerprint and the window of their order: counted once, however often `compare` is called
_HOT_ROWS: dict[tuple[str, int | None], dict[str, Any]] = {}


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
    claims: Claims | None = None,
    checkpoint_minutes: float = 0.0,
) -> Iterator[Step | TrialStep]:
    """Runs every method at every size with every seed, seed by seed, and saves a record after each.

    Runs that finished before, in this folder and with the same data, settings, method, size and seed, are kept; failed
    ones are tried again. Latency is measured by the first seed of a method and size that finishes. Where settings say
    how to tune, trials come first: see `trials.tune`. Several processes may do the same at once in one folder: none
    makes a run that another has claimed, and each yields all runs.

    Args:
        progress: makes the progress callback of run `number` of `total` with a title.
        keep_weights: write each run's trained weights as well (`checkpoint`); a run that finished before without
            keeping them is trained again.
        sizes: see `every_size`.
        claims: what this process takes; by default as a command on its own.
        checkpoint_minutes: while a run is trained, keep it so often in `folder/partial`; killed, it goes on from there
            when it is made again, and ends as if nothing had happened. 0: never.

    Raises:
        InputError: the folder cannot be written or holds damaged records or runs that cannot be compared with these.
    """
    claims = Claims(folder) if claims is None else claims
    described = describe_data(data)
    harness = Harness(
        lambda spec, settings: describe_run(data, spec, settings, SEED, command, described),
        lambda spec, settings, callback, counts, partial: run(
            data, spec, settings, SEED, command, callback, counts=counts, partial=partial
        ),
        lambda spec, settings: width_of(data, spec, settings),
    )
    asked = every_size(methods, settings, sizes)
    minutes = check_minutes(checkpoint_minutes)
    reuse = SEED in seeds and not keep_weights
    choices = yield from tune(asked, harness, folder, progress, reuse, claims, minutes)
    todo = todo_of(data, asked, seeds, command, described)
    window = window_of(len(data.train), settings.shuffle_window)
    hot = _HOT_ROWS.setdefault((data.fingerprint, window), {})

    def execute(one: Todo, progress: Progress | None, measured: Measured, partial: Partial) -> Done:
        if not hot:  # it depends on the data and their order alone
            if progress:
                progress(0, 0, "counting hot rows")
            hot.update(hot_rows(data, window=window))
        keeper = Keeper() if keep_weights else None
        choice = choices.of(one.spec, one.settings)
        made, predictions = choice.done(one.seed) or run(
            data, choice.spec, choice.settings, one.seed, command, progress, measured, keeper, partial=partial
        )
        made = replace(choice.named(made, one.spec, one.settings), data=replace(made.data, hot_rows=hot))
        if keeper is not None and predictions is not None:
            tables = plan_tables(data, choice.spec, choice.settings)
            kept = checkpoint_of(made, tables, choice.settings, data, keeper.weights, predictions)
            checkpoint.save(checkpoint_path(folder, made), kept)
        return made, predictions

    def good(done: Run) -> bool:
        return choices.agrees(done) and stands(folder, keep_weights, done)

    yield from finish(todo, execute, folder, progress, good, data.test.labels.numpy(), claims, minutes)


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
    execute: Execute,
    folder: Path,
    progress: Callable[[int, int, str], Progress] | None = None,
    stands: Callable[[Run], bool] = lambda done: done.ok,
    labels: np.ndarray | None = None,
    claims: Claims | None = None,
    checkpoint_minutes: float = 0.0,
) -> Iterator[Step]:
    """Executes the runs that a folder does not hold yet, and saves each: see `compare`.

    Runs that another process has claimed are left to it; their steps come once their records are there.

    Args:
        todo: the runs asked for.
        execute: makes one, given what tells of a run, once this one is trained, whose latency stands for it too, and
            what it is kept in meanwhile.
        stands: whether a run of before need not be done again.
        labels: `(N,)` of the test part, where they are known before a run; the folder keeps them.
        claims: what this process takes; by default as a command on its own.
        checkpoint_minutes: see `compare`.
    """
    claims = Claims(folder) if claims is None else claims
    total = len(todo)
    store.clean(folder / "records", folder / "weights", folder / "partial")
    shelf = Shelf(folder, claims, stands)
    check_comparable([*shelf.runs.values(), todo[0].about], folder)
    claims.expect(todo[0].about)
    if labels is not None:
        store.save_labels(folder, todo[0].about.data.fingerprint, labels)
    pending = list(enumerate(todo, 1))
    while pending:
        left = []
        for number, one in pending:
            done, kept = shelf.settled(one.about.id), True
            if done is None:
                kept = False
                done = _make(one, execute, shelf, claims, progress, (number, total), todo, checkpoint_minutes)
            if done is None:
                left.append((number, one))
            else:
                if done.status != "failed":
                    partial_of(folder, done.id, 0.0).remove()  # that of a process which ended before it could
                yield Step(done, kept and not shelf.is_new(one.about.id), number, total)
        if len(left) == len(pending):
            claims.wait(total - len(left), total)
        pending = left
    tidy(folder)
    claims.tidy()


def _make(
    one: Todo,
    execute: Execute,
    shelf: Shelf,
    claims: Claims,
    progress: Callable[[int, int, str], Progress] | None,
    place: tuple[int, int],
    todo: Sequence[Todo],
    minutes: float,
) -> Run | None:
    """Makes and saves a run; None where another process has it."""
    about = one.about
    claim = claims.take(about.id, one.title)
    if claim is None:
        return None
    with claim:
        done = shelf.settled(about.id)
        if done is not None:  # it came between the look and the claim
            return done
        if claim.fatal:
            result, predictions = replace(about, reason=claim.fatal), None
        else:
            earlier = [other.about for other in todo if other.about.without_seed == about.without_seed]
            callback = progress(*place, one.title) if progress else None
            partial = partial_of(shelf.folder, about.id, minutes, claim)
            result, predictions = execute(one, callback, lambda: _measured(about, earlier, shelf, claims), partial)
        if not claim.stands:
            return None
        shelf.put(result, predictions)
    return result


def _measured(about: Run, others: Sequence[Run], shelf: Shelf, claims: Claims) -> Run | None:
    """A run whose latency stands for this one; smaller seeds that are being made measure it, so they are waited for."""
    earlier = [other.id for other in others if other.seed < about.seed]
    while True:
        taken = any(map(claims.taken, earlier))
        for other in earlier:
            shelf.look(other)
        found = measured_before(about, shelf.runs.values())
        if found is not None or not taken:
            return found
        claims.wait()
