"""`--model MODULE:FUNCTION`: compare and train with a model and loaders of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from embpress.cli.compare import follow, protocol_line
from embpress.cli.compare_workers import Workers
from embpress.cli.options import command_line, set_threads, settings_of
from embpress.compressors import InputError
from embpress.compressors.guard import path
from embpress.dlrm.training.settings import Settings

if TYPE_CHECKING:
    from embpress.compressors import MethodSpec
    from embpress.dlrm.runs.claims import Claims
    from embpress.dlrm.runs.compare import Step
    from embpress.dlrm.runs.record import Asked
    from embpress.dlrm.runs.trials import TrialStep
    from embpress.dlrm.user_model.task import Task

# what the loaders and the model say themselves has no option here
_OPTIONS = {
    *("model", "methods", "method", "seeds", "seed", "out", "threads", "executor", "worker", "checkpoint_minutes"),
    *("ratio", "budget", "min_rows", "largest", "optimizer", "learning_rate", "tune", "epochs", "device"),
}


def run_user_model(
    options: dict[str, Any],
    out: str | None,
    specs: list[MethodSpec],
    seeds: Sequence[int],
    sizes: Sequence[Asked] = (),
    workers: Workers | None = None,
    checkpoint_minutes: float = 0.0,
) -> None:
    """Says what is compared, and follows it: see `follow`."""
    from embpress.cli.show import console
    from embpress.dlrm.runs.seeds import in_rounds
    from embpress.dlrm.user_model.compare import compare, folder_of
    from embpress.dlrm.user_model.experiment import prepare

    ctx, reference = click.get_current_context(), options["model"]
    for parameter in ctx.command.params:
        typed = ctx.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if typed and parameter.name not in _OPTIONS:
            what = parameter.opts[0] if parameter.param_type_name == "option" else "a data file"
            raise InputError(f"{what} does not go with --model {reference}, which brings its model and data along")
    set_threads(options.pop("threads"))
    settings = settings_of(0, {**options, "model": Settings.model})
    with console(stderr=True).status("reading data"):
        prepared = prepare(task_of(reference), settings)
    folder = folder_of(prepared, settings, None if out is None else path(out, "--out"))
    rows = ", ".join(f"{n:,} {part}" for part, n in prepared.data.rows.items())
    tables = f"{len(prepared.configs)} tables, {sum(prepared.data.num_embeddings):,} rows in all"
    console().print(f"{prepared.task.name}: {rows or 'rows unknown'}; {tables}", markup=False)
    about = f"{prepared.model['dense_parameters']:,} dense parameters"
    size = getattr(prepared.train, "batch_size", None)
    console().print(protocol_line(about, settings, len(specs), seeds, len(sizes), size), markup=False)

    def steps(start: Any, claims: Claims) -> Iterator[Step | TrialStep | str]:
        return in_rounds(
            seeds,
            lambda some: compare(
                prepared, specs, settings, some, folder, command_line(), start, sizes, claims, checkpoint_minutes
            ),
        )

    follow(steps, folder, settings, workers or Workers())


def task_of(reference: str) -> Task:
    """What a `module:function` gives; modules of the current folder are found too.

    Raises:
        InputError: no such module or function, or one that raises or gives something else.
    """
    from embpress.dlrm.user_model.task import Task

    module, _, name = reference.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name)
        given = function()
    except InputError:
        raise
    except Exception as error:  # whatever the user's module does
        raise InputError(f"--model {reference} gives no model: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    return Task.of(given, reference)
