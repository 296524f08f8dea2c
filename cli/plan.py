"""`embpress plan`."""

from __future__ import annotations

from typing import Any

import click

from embpress.cli.options import data_options, training_options


@click.command(name="plan")
@data_options
@click.option("--method", default="tt", show_default=True, help="A method with its knobs and modifiers.")
@training_options
@click.option("--save", type=click.Path(), metavar="FILE", help="Write the plan, to be used as the method plan:FILE.")
@click.option("--force", is_flag=True, help="Write it over a file that is there.")
def command(method: str, save: str | None, force: bool, **options: Any) -> None:
    """Show what each table would use and take, without training.

    A saved plan is JSON with one entry a table, which may be edited: every table can have a method of its own.

    \b
    Examples:
      embpress plan clicks.csv --label click --method robe:z=16 --ratio 64
      embpress plan clicks.csv --label click --method tt+bf16 --budget 20M --save plan.json
      embpress compare clicks.csv --label click --methods full,tt,plan:plan.json --ratio 64
    """
    from embpress.cli.compare import prepared
    from embpress.cli.show import console, table
    from embpress.compressors import InputError, parse
    from embpress.compressors.guard import path
    from embpress.dlrm.runs.experiment import plan_tables
    from embpress.reports import numerals

    spec = parse(method)
    if save is not None and path(save, "--save").exists() and not force:
        raise InputError(f"--save {save} is there already and may have been edited; --force writes over it")
    data, settings = prepared(options)
    planned = plan_tables(data, spec, settings)
    rows = [
        [t.config.name, f"{t.config.num_embeddings:,}", str(t.embedding_dim), str(t.method), numerals.size(t.bytes)]
        for t in planned.tables
    ]
    size = sum(t.bytes for t in planned.tables)
    out = console()
    out.print(table(["table", "rows", "width", "method", "bytes"], rows, left=(0, 3)))
    out.print(
        f"{numerals.size(size)} of {numerals.size(planned.full_bytes)}, {numerals.ratio(planned.full_bytes / size)}",
        markup=False,
    )
    if save is not None:
        planned.save(save)
        out.print(f"plan: {save}", markup=False, soft_wrap=True)
