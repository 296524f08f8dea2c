"""`embpress report`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


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
def command(folder: str, form: str) -> None:
    """Write a report from the records of a run folder.

    \b
    Examples:
      embpress report runs/kaggle
      embpress report runs/kaggle --format csv > runs.csv
    """
    from embpress.dlrm.record import read_all

    records = read_all(Path(folder))
    if form != "markdown":
        from embpress.reports import to_csv, to_json

        sys.stdout.write((to_csv if form == "csv" else to_json)(records))
        return
    from embpress.cli.show import show_result

    show_result(records, Path(folder))
