"""`embpress report`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from embpress.compressors.errors import InputError


@click.command(name="report")
@click.argument("folder", type=click.Path())
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "csv", "json"]),
    default="markdown",
    show_default=True,
    help="markdown writes report.md and its plots into the folder; csv and json go to standard output, one row a run.",
)
@click.option(
    "--page",
    "pages",
    multiple=True,
    type=click.Choice(["hot-rows", "initialisation", "ranks"]),
    help="Also write this page, with plots, beside report.md; may be given several times. hot-rows: how soon the most "
    "frequent rows are known, and what a cache of them would answer. initialisation: which values the entries of a "
    "tensor-train table start with. ranks: test AUC over the rank and the size of tensor-train tables.",
)
def command(folder: str, form: str, pages: tuple[str, ...]) -> None:
    """Write a report from the records of a run folder.

    \b
    Examples:
      embpress report runs/kaggle
      embpress report runs/kaggle --format csv > runs.csv
      embpress report runs/kaggle --page hot-rows --page initialisation --page ranks
    """
    from embpress.dlrm.runs.record import read_all

    if pages and form != "markdown":
        raise InputError(f"--page {pages[0]} is written in markdown and does not go with --format {form}")
    records = read_all(Path(folder))
    if form != "markdown":
        from embpress.reports import to_csv, to_json

        sys.stdout.write((to_csv if form == "csv" else to_json)(records))
        return
    from embpress.reports import PAGES

    for name in pages:
        reason = PAGES[name].lacks(records)
        if reason:
            raise InputError(f"--page {name}: {folder}: {reason}")
    from embpress.cli.show import show_result

    show_result(records, Path(folder), pages)
