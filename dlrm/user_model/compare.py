"""Several methods and seeds with the user's model: the same records, in the same kind of folder, as with click data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from embpress.compressors import InputError, MethodSpec, parse
from embpress.dlrm.runs.claims import Claims
from embpress.dlrm.runs.compare import Done, Step, finish
from embpress.dlrm.runs.experiment import Measured
from embpress.dlrm.runs.partial import Partial, check_minutes
from embpress.dlrm.runs.record import Asked, Run
from embpress.dlrm.runs.seeds import AutoSeeds, in_rounds
from embpress.dlrm.runs.store import check_writable, default_folder, save_labels
from embpress.dlrm.runs.sweep import Todo, every_size
from embpress.dlrm.runs.trials import SEED, Harness, TrialStep, tune
from embpress.dlrm.sets import parse_methods
from embpress.dlrm.training.loop import Progress
from embpress.dlrm.training.settings import Settings, resolve
from embpress.dlrm.user_model.experiment import Prepared, describe_run, prepare, run
from embpress.dlrm.user_model.task import Loss, Score, Task, logits_and_labels


def compare_models(
    model_fn: Callable[[], nn.Module],
    train_loader: Iterable[Any],
    test_loader: Iterable[Any],
    methods: str | Sequence[str | MethodSpec],
    *,
    valid_loader: Iterable[Any] | None = None,
    score: Score = logits_and_labels,
    loss: Loss | None = None,
    name: str = "model",
    folder: str | Path | None = None,
    seeds: int | str | Sequence[int] = 1,
    checkpoint_minutes: float = 0.0,
    **options: Any,
) -> list[Run]:
    """Trains a model of one's own with each method and seed, and saves a record of every run as it ends.

    For each run `model_fn` builds the plain model from seeded random numbers, `compress_model` replaces its embeddings,
    and it is trained on the seed's order of the samples. The epoch with the best validation AUC gives the test scores.
    What cannot be measured of such a model is in no record: latency of the whole model, and of tables of several
    widths; the training bytes of tables that are used otherwise than by calling their module.

    Args:
        model_fn, train_loader, test_loader, valid_loader, score, loss, name: see `Task`.
        methods: such as `"full,tt,robe:z=32"` or `"baselines,robe"` (see `dlrm.sets`), or a list of specs.
        folder: run folder; `runs/<name>-<hash>` by default. A run that is in it already is not run again, so that the
            same call goes on after an interruption.
        seeds: how many, 0 to seeds - 1, or which; `"auto:0.002"` adds seeds until every difference to the full tables
            is known to ±0.002 (`runs.seeds.AutoSeeds`).
        checkpoint_minutes: keep a run so often while it is trained, so that one that is killed goes on from there; 0:
            never. What is kept is what state dicts hold; of the epoch that was interrupted the loader gives the batches
            before once more, unused.
        **options: `ratio`, `budget`, `min_rows`, `largest`, `optimizer`, `learning_rate`, `epochs`, `device`, `tune` of
            `Settings`.

    Returns:
        The runs, seed by seed; `embpress.reports.write_report(folder, runs)` writes the report, `load(folder)` gives a
        data frame.

    Raises:
        InputError: see `prepare`; an unknown method or option; a folder with runs that cannot be compared with these.
    """
    if isinstance(methods, str):
        specs = parse_methods(methods)
    else:
        specs = [parse(method) if isinstance(method, str) else method for method in methods]
    settings = resolve(0, **options)
    numbers = (
        range(seeds) if isinstance(seeds, int) else AutoSeeds.parse(seeds, "seeds") if isinstance(seeds, str) else seeds
    )
    if isinstance(numbers, AutoSeeds):
        numbers.check(specs, "seeds")
    prepared = prepare(Task(model_fn, train_loader, test_loader, valid_loader, score, loss, name), settings)
    where = folder_of(prepared, settings, folder)
    steps = in_rounds(
        numbers, lambda some: compare(prepared, specs, settings, some, where, checkpoint_minutes=checkpoint_minutes)
    )
    return [step.run for step in steps if isinstance(step, Step)]


def folder_of(prepared: Prepared, settings: Settings, folder: str | Path | None) -> Path:
    """The run folder asked for, or one named after what the runs share; InputError where it cannot be written."""
    shared = describe_run(prepared, parse("full"), settings, 0, "").protocol
    where = default_folder(prepared.task.name, shared) if folder is None else Path(folder)
    check_writable(where)
    return where


def compare(
    prepared: Prepared,
    methods: Sequence[MethodSpec],
    settings: Settings,
    seeds: Sequence[int],
    folder: Path,
    command: str = "",
    progress: Callable[[int, int, str], Progress] | None = None,
    sizes: Sequence[Asked] = (),
    claims: Claims | None = None,
    checkpoint_minutes: float = 0.0,
) -> Iterator[Step | TrialStep]:
    """Runs every method at every size with every seed: see `runs.compare.compare`.

    Raises:
        InputError: no method, or one that is named twice.
    """
    if not methods or len(set(map(str, methods))) < len(methods):
        raise InputError("methods must be given, each once")

    claims, minutes = Claims(folder) if claims is None else claims, check_minutes(checkpoint_minutes)

    def keep_labels(labels: np.ndarray) -> None:
        save_labels(folder, prepared.data.fingerprint, labels)

    asked = every_size(methods, settings, sizes)
    todo = [
        Todo(spec, of_size, seed, describe_run(prepared, spec, of_size, seed, command))
        for seed in seeds
        for spec, of_size in asked
    ]
    width = max(config.embedding_dim for config in prepared.configs)
    harness = Harness(
        lambda spec, settings: describe_run(prepared, spec, settings, SEED, command),
        lambda spec, settings, callback, counts, partial: run(
            prepared, spec, settings, SEED, command, callback, keep_labels=keep_labels, counts=counts, partial=partial
        ),
        lambda spec, settings: width,
    )
    choices = yield from tune(asked, harness, folder, progress, SEED in seeds, claims, minutes)

    def execute(one: Todo, callback: Progress | None, measured: Measured, partial: Partial) -> Done:
        choice = choices.of(one.spec, one.settings)
        made, predictions = choice.done(one.seed) or run(
            prepared, choice.spec, choice.settings, one.seed, command, callback, measured, keep_labels, partial=partial
        )
        return choice.named(made, one.spec, one.settings), predictions

    def good(done: Run) -> bool:
        return done.ok and choices.agrees(done)

    yield from finish(todo, execute, folder, progress, good, None, claims, minutes)
