"""`embpress plan`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embpress.cli.data_cache import CACHE
from embpress.cli.options import data_options, training_options

if TYPE_CHECKING:
    from embpress.compressors import Plan
    from embpress.dlrm.data import ClickData
    from embpress.dlrm.planning.made import Made
    from embpress.dlrm.training.settings import Settings

_SHOWN = 12  # candidates in the table of what was tried


@click.command(name="plan")
@data_options
@CACHE
@click.option("--method", help="Plan this method with its knobs and modifiers for all tables; nothing is trained then.")
@training_options
@click.option("--max-lookup-us", type=float, help="The longest lookup of a batch of 128 in all tables, microseconds.")
@click.option("--max-training", metavar="SIZE", help="The most bytes of tables in training, optimizer state included.")
@click.option(
    "--probe-minutes", type=float, default=5.0, show_default=True, help="The time for short trainings, at most."
)
@click.option(
    "--records",
    type=click.Path(),
    multiple=True,
    metavar="FOLDER",
    help="Run folders of comparisons of these data: what they and their trials have tried is not tried again. "
    "[default: runs/<data>-<hash>]",
)
@click.option(
    "--probes", type=click.Path(), metavar="FOLDER", help="Where they are kept. [default: runs/<data>-<hash>]"
)
@click.option("--out", "--save", "save", type=click.Path(), metavar="FILE", help="Write the plan, for plan:FILE.")
@click.option("--force", is_flag=True, help="Write it over a file that is there.")
def command(
    method: str | None,
    max_lookup_us: float | None,
    max_training: str | None,
    probe_minutes: float,
    records: tuple[str, ...],
    probes: str | None,
    save: str | None,
    force: bool,
    **options: Any,
) -> None:
    """Propose what each table of a model should use for a size, and say what to expect of it.

    Candidates are trained for a short time and scored on rows held out of the training part; the test part is not
    looked at. Without --lr, full tables and the best candidates are trained at several learning rates. With --method
    no search is made: the plan of that method is shown. A plan is JSON with one entry a table, which may be edited;
    compare, train and compress_model take it as plan:FILE.

    \b
    Examples:
      embpress plan clicks.csv --label click --ratio 16 --out plan.json
      embpress compare clicks.csv --label click --methods full,robe+int4,plan:plan.json --ratio 16
      embpress plan clicks.csv --label click --budget 20M --max-lookup-us 50 --probe-minutes 20 --out plan.json
      embpress plan clicks.csv --label click --method robe:z=16 --ratio 64
    """
    from embpress.cli.compare import prepared
    from embpress.cli.show import console
    from embpress.compressors import InputError, parse
    from embpress.compressors.guard import path
    from embpress.dlrm.runs.experiment import plan_tables
    from embpress.dlrm.runs.store import record_paths

    if save is not None and path(save, "--out").exists() and not force:
        raise InputError(f"--out {save} is there already and may have been edited; --force writes over it")
    if method is None and options["ratio"] is None and options["budget"] is None:
        raise InputError("say how small the tables shall be: --ratio 16, or --budget 20M")
    if not 0 < probe_minutes < 1e6:
        raise InputError(f"--probe-minutes must be above 0 and finite, got {probe_minutes:g}")
    for flag, value in (
        ("--max-lookup-us", max_lookup_us),
        ("--max-training", max_training),
        ("--probes", probes),
        ("--records", records or None),
    ):
        if method is not None and value is not None:
            raise InputError(f"{flag} goes with a search, and --method {method} makes none")
    for place in records:
        if not record_paths(path(place, "--records")):
            raise InputError(f"--records {place} holds no records: it is no run folder of embpress compare or train")
    spec = None if method is None else parse(method)
    if save is not None:  # what cannot be written is told before the search
        try:
            path(save, "--out").absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {save} cannot be written ({error.strerror or error})") from None
    data, settings = prepared(options)
    rates = options["learning_rate"] is None
    made = None
    if spec is None:
        made = search(data, settings, max_lookup_us, max_training, probe_minutes, probes, records, rates)
    planned = made.plan if made is not None else plan_tables(data, parse(method or ""), settings)
    if save is not None:  # first of all: what was found took its time
        planned.save(save)
    if made is None:
        show(planned)
    else:
        report(made)
    if save is not None:
        out = console()
        out.print(f"plan: {save}", markup=False, soft_wrap=True)
        if spec is None:
            out.print(f"use it: {using(save, rates)}", markup=False, soft_wrap=True)


def using(plan: str, tune: bool) -> str:
    """The command that compares the plan with full tables on the same data, each at its own learning rate or not."""
    own = {
        "--max-lookup-us",
        "--max-training",
        "--probe-minutes",
        "--records",
        "--probes",
        "--out",
        "--save",
        "--method",
    }
    kept: list[str] = []
    words = iter(sys.argv[2:])
    for word in words:
        name, equals, _ = word.partition("=")
        if name in own:
            if not equals:
                next(words, None)
        elif name != "--force":
            kept.append(word)
    rates = ["--tune", "lr"] * tune
    return shlex.join(["embpress", "compare", *kept, *rates, "--methods", f"full,plan:{plan}"])


def search(
    data: ClickData,
    settings: Settings,
    max_lookup_us: float | None,
    max_training: str | None,
    minutes: float,
    folder: str | None,
    records: Sequence[str] = (),
    rates: bool = False,
) -> Made:
    """Searches for a plan, with progress at a terminal."""
    from embpress.cli.options import out_folder
    from embpress.cli.show import RunProgress
    from embpress.compressors.guard import counted
    from embpress.compressors.spec import as_bytes
    from embpress.dlrm.planning.candidate import Goal
    from embpress.dlrm.planning.made import make
    from embpress.dlrm.planning.probe import Prober
    from embpress.dlrm.planning.records import Records
    from embpress.dlrm.runs.experiment import table_configs
    from embpress.dlrm.runs.store import check_writable

    configs = table_configs(data, settings.width)
    full = sum(4 * n * dim for n, dim, _ in configs)
    size = settings.budget if settings.ratio is None else int(full / settings.ratio)
    assert size is not None  # one of the two has been asked for
    most = None if max_training is None else as_bytes(max_training)
    goal = Goal(configs, size, settings, max_lookup_us, most, rates)
    if folder is not None:
        check_writable(Path(folder))
    home = out_folder(None, data, settings)
    where = (home if folder is None else Path(folder)) / "probes"
    known = Records.read([home, *map(Path, records)], data, settings)
    with RunProgress() as progress:
        track = progress.start(1, 1, "probes")
        if len(known):
            progress.log(f"{counted(len(known), 'run')} of comparisons on these data need not be tried again")
        return make(goal, Prober(data, settings, where, known), minutes, len(data.test), progress.log, track)


def show(planned: Plan) -> None:
    """The tables of a plan and their bytes."""
    from rich.markup import escape

    from embpress.cli.show import console, table
    from embpress.reports import numerals

    why = any(t.why for t in planned.tables)
    rows = [
        [t.config.name, f"{t.config.num_embeddings:,}", str(t.embedding_dim), str(t.method), numerals.size(t.bytes)]
        + [t.why] * why
        for t in planned.tables
    ]
    size = planned.bytes
    out = console()
    shown = [[escape(cell) for cell in row] for row in rows]
    out.print(table(["table", "rows", "width", "method", "bytes"] + ["why"] * why, shown, left=(0, 3, 5)))
    out.print(
        f"{numerals.size(size)} of {numerals.size(planned.full_bytes)}, {numerals.ratio(planned.full_bytes / size)}",
        markup=False,
    )


def report(made: Made) -> None:
    """What was tried, the plan, and what it promises."""
    from rich.markup import escape

    from embpress.cli.show import console, table
    from embpress.reports import numerals

    out, study = console(), made.study
    rates = study.goal.rates
    rows = []
    for one, folds in made.tried()[: _SHOWN + 1]:
        over = range(folds)
        rate = f"{one.rate or study.goal.settings.learning_rate:g}"
        auc, to_full = study.mean(one.key, over), study.mean(study.full.key, over)
        gap = "–" if one is study.full or to_full == float("-inf") else numerals.signed(auc - to_full)
        rows.append([escape(one.name), numerals.size(one.bytes), *[rate] * rates, str(folds), numerals.score(auc), gap])
    headers = ["tried", "bytes", *["rate"] * rates, "folds", "mean AUC", "to full"]
    out.print(table(headers, rows, left=(0,)))
    left = len(made.tried()) - len(rows)
    if left > 0:
        out.print(f"and {left} more that were tried in full and scored lower", markup=False)
    if untried := made.study.untried():
        out.print(f"{untried} of {len(made.study.candidates)} candidates were not tried for want of time", markup=False)
    for name, reason in made.study.failures():
        out.print(f"{name} failed: {reason}", markup=False)
    for name, reason in made.study.refused:
        out.print(f"not tried, beyond a limit: {name} takes {reason}", markup=False)
    show(made.plan)
    for line in promised(made):
        out.print(line, markup=False, soft_wrap=True)


def promised(made: Made) -> list[str]:
    """What is to be expected, in sentences."""
    from embpress.reports import numerals

    said = made.promise
    bounds = ""
    if said.low is not None and said.high is not None:
        bounds = f", between {numerals.score(said.low)} and {numerals.score(said.high)} (90 %)"
    short = said.short
    what = f"validation AUC after {short}" if short else "expected test AUC"
    rate = f", at a learning rate of {made.plan.about['learning_rate']:g}" if made.study.goal.rates else ""
    lines = [f"chosen: {made.chosen.name}{rate}", f"{what} {numerals.score(said.auc)}{bounds}"]
    if short:
        lines.append("so short were the probes: a whole training gives another AUC; more --probe-minutes tell it")
    if not short and not said.fresh:
        lines.append("no time was left to try it on rows that chose nothing: the AUC is likely a little too high")
    if said.to_full is not None:
        span = ""
        if said.to_full_low is not None and said.to_full_high is not None:
            span = f" ({numerals.signed(said.to_full_low)} to {numerals.signed(said.to_full_high)})"
        lines.append(f"against full tables {numerals.signed(said.to_full)}{span}")
    if made.single is not None and made.single[0].key != made.chosen.key:
        one, expected = made.single
        lines.append(f"the best single expression, {one.single}: {numerals.score(expected.auc)}")
    lines.append(f"{numerals.size(said.serving_bytes)} to serve, {numerals.size(said.training_bytes)} in training")
    lines.append(
        f"a lookup of a batch of 128 takes {said.lookup_us:.0f} µs, in full tables {said.full_lookup_us:.0f} µs, "
        f"a training step {said.step_ms:.2f} ms"
    )
    return lines
