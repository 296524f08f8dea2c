"""`embpress compare`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embpress.cli.compare_processes import PROCESSES, end_where_lost, leading, place_of, take_part
from embpress.cli.compare_workers import EXECUTOR, WORKER, Workers, work
from embpress.cli.data_cache import CACHE, load_with_cache
from embpress.cli.numbers import Seeds
from embpress.cli.options import (
    CHECKPOINT,
    KEEP_WEIGHTS,
    TUNE,
    command_line,
    data_options,
    out_folder,
    run_folder,
    set_threads,
    settings_of,
    sizes_of,
    sweep_options,
    tell_order,
)
from embpress.dlrm.sets import DEFAULT, parse_methods, sets

if TYPE_CHECKING:
    from embpress.compressors import MethodSpec
    from embpress.dlrm.data import ClickData
    from embpress.dlrm.runs.claims import Claims
    from embpress.dlrm.runs.compare import Step
    from embpress.dlrm.runs.record import Asked
    from embpress.dlrm.runs.trials import TrialStep
    from embpress.dlrm.training.settings import Settings


@click.command(name="compare")
@data_options
@CACHE
@click.option(
    "--methods",
    default=DEFAULT,
    show_default=True,
    help="Methods with knobs and modifiers, plan:FILE, and sets of methods "
    f"({', '.join(sets())}), separated by commas; see embpress list.",
)
@sweep_options
@click.option(
    "--seeds",
    type=Seeds(),
    default=1,
    show_default=True,
    metavar="N|auto:WIDTH[:max=N]",
    help="Repeat with seeds 0 to N-1, for the spread; auto:0.002 adds seeds, 10 at most, until every difference to the "
    "full tables is known to ±0.002 (half its 95 % interval over the seeds).",
)
@TUNE
@KEEP_WEIGHTS
@PROCESSES
@CHECKPOINT
@EXECUTOR
@WORKER
@click.option("--out", type=click.Path(), metavar="FOLDER", help="Run folder. [default: runs/<data>-<hash>]")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be run, its bytes and about how long it would take; write nothing but data into a --cache.",
)
def command(
    methods: str,
    seeds: Sequence[int],
    keep_weights: bool,
    checkpoint_minutes: float,
    executor: str | None,
    worker: str | None,
    out: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train the same click model with several methods: size, AUC and latency side by side.

    Without a file it makes synthetic click data in the shape of Criteo-Kaggle. With --model MODULE:FUNCTION it trains a
    model of your own, with your own loaders. Every run is saved as it ends, and a long one now and then before: after
    an interruption the same command goes on where it stopped. Several sizes, as in --ratio 4,16,64, are one comparison:
    what has one size only, such as full tables or a method with a ratio of its own, is run once.

    \b
    Examples:
      embpress compare
      embpress compare --ratio 16 --seeds 3
      embpress compare --ratio 16 --seeds auto:0.002:max=20
      embpress compare --ratio 16 --methods baselines,robe:z=8,robe:z=8+bf16
      embpress compare train.txt --test test.txt --format criteo --methods full,tt,robe,qr,mlet --ratio 16
      embpress compare clicks.csv --label click --dense price,age --ratio 4,16,64 --dry-run
      embpress compare a.libfm b.libfm --methods full,hash,qr,robe:z=16,tt:rank=8 --ratio 4 --epochs 4
      embpress compare clicks.parquet --methods robe:ratio=10,robe:ratio=100,robe:ratio=1000
      embpress compare --ratio 16 --methods full,robe,tt --tune all:trials=8 --seeds 3
      embpress compare --device cuda --amp --methods full,full-tbe,tt,robe --ratio 16
      embpress compare --ratio 16 --seeds 5 --executor local:4 --threads 1
      embpress compare --ratio 16 --processes 2 --threads 1
      embpress compare --model shop.training:task --ratio 16 --optimizer adam --lr 0.001
    """
    specs = parse_methods(methods)  # before the data are read: a typing mistake should not wait for them
    check_seeds(seeds, specs)
    workers = Workers.of(executor, worker, options)
    run_with(options, out, specs, seeds, keep_weights, sizes_of(options), dry_run, workers, checkpoint_minutes)


def check_seeds(seeds: Sequence[int], specs: list[MethodSpec]) -> None:
    """Raises InputError where seeds are to be added until something is known that these methods cannot tell."""
    from embpress.dlrm.runs.seeds import AutoSeeds

    if isinstance(seeds, AutoSeeds):
        seeds.check(specs)


def run_with(
    options: dict[str, Any],
    out: str | None,
    specs: list[MethodSpec],
    seeds: Sequence[int],
    keep_weights: bool,
    sizes: Sequence[Asked] = (),
    dry_run: bool = False,
    workers: Workers | None = None,
    checkpoint_minutes: float = 0.0,
) -> None:
    """Compares on click data, or in a model of the user's own where `--model` names one by `module:factory`."""
    own, several = ":" in options["model"], workers is not None and (workers.executor or workers.session)
    refused = f"--model {options['model']}" if own else "--dry-run" if dry_run else "--executor" if several else ""
    place = place_of(options, refused)
    if place.rank:
        take_part(place, options, out)
    elif own:
        from embpress.cli.user_model import run_user_model
        from embpress.compressors import InputError

        if dry_run:
            raise InputError(f"--dry-run does not go with --model {options['model']}: it knows click models alone")
        run_user_model(options, out, specs, seeds, sizes, workers, checkpoint_minutes)
    else:
        run_all(*prepared(options), out, specs, seeds, keep_weights, sizes, dry_run, workers, checkpoint_minutes)


def prepared(options: dict[str, Any]) -> tuple[ClickData, Settings]:
    """Data and settings from the options; says at a terminal that it is reading."""
    from embpress.cli.show import console

    set_threads(options.pop("threads"))
    cache = options.pop("cache")
    settings_of(0, options)  # before the data are read: a mistake should not wait for them
    tell_order(options)
    with console(stderr=True).status("reading data") as status:
        data, where = load_with_cache(options, cache, status.update)
    if where:
        console().print(where, markup=False, soft_wrap=True)
    settings = settings_of(len(data.train) + len(data.valid) + len(data.test), options)
    return data, settings


def run_all(
    data: ClickData,
    settings: Settings,
    out_path: str | None,
    specs: list[MethodSpec],
    seeds: Sequence[int],
    keep_weights: bool = False,
    sizes: Sequence[Asked] = (),
    dry_run: bool = False,
    workers: Workers | None = None,
    checkpoint_minutes: float = 0.0,
) -> None:
    """Says what is compared, and follows it: see `follow`."""
    from embpress.cli.show import console
    from embpress.dlrm.data import describe
    from embpress.dlrm.runs.compare import compare
    from embpress.dlrm.runs.seeds import in_rounds
    from embpress.dlrm.runs.sweep import every_size
    from embpress.dlrm.training.order import window_of

    check_reachable(data, every_size(specs, settings, sizes))
    # only now: what is refused leaves none behind
    folder = (run_folder if dry_run else out_folder)(out_path, data, settings)
    about = f"{settings.model} model, {settings.preset} preset, width {settings.width}"
    if (window := window_of(len(data.train), settings.shuffle_window)) is not None:
        about += f", samples mixed within {window:,} rows"
    out = console()
    out.print(describe(data), markup=False)
    out.print(protocol_line(about, settings, len(specs), seeds, len(sizes), settings.batch_size), markup=False)
    if dry_run:
        from embpress.cli.dry_run import show_estimates

        show_estimates(data, specs, settings, seeds, folder, sizes, keep_weights)
        return
    command = command_line()

    def steps(start: Any, claims: Claims) -> Iterator[Step | TrialStep | str]:
        return in_rounds(
            seeds,
            lambda some: compare(
                data,
                specs,
                settings,
                some,
                folder,
                command,
                start,
                keep_weights,
                sizes,
                claims,
                checkpoint_minutes,
            ),
        )

    with leading(settings, data) as team:

        def until_lost(start: Any, claims: Claims) -> Iterator[Step | TrialStep | str]:
            for step in steps(start, claims):
                yield step
                end_where_lost(team, folder)

        follow(until_lost, folder, settings, workers or Workers())


def protocol_line(
    about: str, settings: Settings, methods: int, seeds: Sequence[int], sizes: int, batch_size: int | None
) -> str:
    """What is about to be trained, in one line; `sizes` where there are several."""
    from embpress.compressors.guard import counted
    from embpress.dlrm.runs.seeds import AutoSeeds
    from embpress.dlrm.tuning import parse

    rate = f"{settings.learning_rate:g}"
    if settings.tune:
        way = parse(settings.tune, settings.learning_rate)
        rate = f"rates tuned by {way.label} ({counted(way.trials, 'trial')} a method)"
    return (
        f"{about}, {settings.optimizer} {rate}, "
        f"{'' if batch_size is None else f'batch {batch_size}, '}"
        f"{counted(settings.epochs, 'epoch')}"
        f"{', bfloat16 MLPs' if settings.amp else ''}, on {settings.device}"
        f"{f' in {settings.processes} processes' if settings.processes > 1 else ''}; "
        f"{counted(methods, 'method')} × {f'{sizes} sizes × ' if sizes else ''}"
        f"{'at most ' if isinstance(seeds, AutoSeeds) else ''}{counted(len(seeds), 'seed')}"
    )


def follow(
    steps: Callable[[Any, Claims], Iterator[Step | TrialStep | str]], folder: Path, settings: Settings, workers: Workers
) -> None:
    """Shows runs as they end, then the table, and writes the report; exit status 1 where every run failed.

    Args:
        steps: makes the runs, and lines to be shown among them; it is given what makes the progress of one, and the
            claims on runs.
        folder: run folder.
        settings: of all runs.
        workers: who makes them; a worker itself shows nothing.
    """
    from embpress.cli.show import RunProgress, console, show_result, warnings_as_lines
    from embpress.compressors.guard import counted
    from embpress.dlrm.runs.store import read_all, record_paths

    if workers.session is not None:
        with workers.claims(folder, settings) as claims:
            work(lambda: steps(None, claims), workers.parent)
        return
    out = console()
    present = len(record_paths(folder))
    if present:
        out.print(f"joins {counted(present, 'run')} in {folder}", markup=False, soft_wrap=True)
    with RunProgress() as progress, warnings_as_lines(progress.log):
        waited = False
        try:
            with workers.claims(folder, settings, progress.start) as claims:
                for step in steps(progress.start, claims):
                    if isinstance(step, str):
                        progress.log(step)
                        continue
                    if line := _line(step):
                        progress.log(line)
                    waited |= not step.kept and step.run.threads_waited
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted: runs that ended are saved in {folder}; the same command goes on from there."
            ) from None
        if waited:
            progress.log(
                f"some steps took many times as long as most: {settings.threads} threads wait for each other on a busy "
                "machine; --threads 1 may be faster"
            )
    runs = read_all(folder)
    out.print()
    show_result(runs, folder)
    if not any(run.ok for run in runs):
        raise click.exceptions.Exit(1)


def check_reachable(data: ClickData, methods: list[tuple[MethodSpec, Settings]]) -> None:
    """Tries all methods at all sizes without memory before anything is trained.

    Raises:
        InputError: a knob with a value that does not fit these tables, or sizes that none of the methods can reach.
    """
    from embpress.compressors import BudgetError, InputError
    from embpress.compressors.spec import PlanFile
    from embpress.dlrm.runs.experiment import build_tables

    refused = []
    compressed = [one for one in methods if one[0].modifiers or not one[0].tags.uncompressed]
    for spec, settings in compressed:
        if not isinstance(spec, PlanFile):  # though no table may be large enough to be compressed
            spec.cls(max(data.num_embeddings), settings.width, device="meta", **spec.knobs)
        try:
            build_tables(data, spec, settings, 0, device="meta")
        except BudgetError as error:
            refused.append(f"{spec} {error}")
    if compressed and len(refused) == len(compressed):
        raise InputError("; ".join(refused))


def _line(step: Step | TrialStep) -> str:
    """One finished run; empty for a trial of before."""
    from embpress.compressors.guard import counted
    from embpress.dlrm.runs.trials import TrialStep

    if isinstance(step, TrialStep):
        return "" if step.kept else step.line
    run, kept, number, total = step
    head = f"[{number}/{total}] {run.method} · seed {run.seed}: "
    if run.status == "cannot reach":
        return f"{head}{run.reason}"
    if not run.ok:
        return f"{head}{run.status}: {run.reason}"
    metrics = run.metrics
    resumed = f", resumed {counted(run.resumed, 'time')}" if run.resumed else ""
    tail = " (kept from before)" if kept else f" in {metrics['train_seconds']:.1f} s{resumed}"
    return head + f"AUC {metrics['auc']:.4f} at {metrics['ratio']:.1f}×{tail}"
