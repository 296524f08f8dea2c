"""`embpress report`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from embpress.compressors.errors import InputError


class PageOption(click.Option):
    """Its help names the pages that are there when it is asked for."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help with every page's name and what it tells."""
        from embpress.reports.pages import about, page_names

        record = super().get_help_record(ctx)
        known = " ".join(f"{name}: {about(name)[1]}" for name in page_names())
        return record and (record[0], f"{record[1]} {known}")


@click.command(name="report")
@click.argument("folders", nargs=-1, required=True, type=click.Path(), metavar="FOLDER...")
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
    metavar="NAME",
    cls=PageOption,
    help="Also write this page, with plots, beside report.md; may be given several times.",
)
@click.option(
    "--across", metavar="FILE", help="Write one table of several run folders into this file, a column each, instead."
)
@click.option(
    "--target",
    metavar="AUC",
    help="Write the page targets, with this validation AUC to reach: a number, or full for the full tables' best.",
)
@click.option("--metric", metavar="NAME", help="The number in that table, as in the columns of csv.  [default: auc]")
def command(
    folders: tuple[str, ...],
    form: str,
    pages: tuple[str, ...],
    across: str | None,
    target: str | None,
    metric: str | None,
) -> None:
    """Write a report from the records of a run folder, or one table of several.

    \b
    Examples:
      embpress report runs/kaggle
      embpress report runs/kaggle --format csv > runs.csv
      embpress report runs/kaggle --page hot-rows --page initialisation --page ranks
      embpress report runs/kaggle --page targets --target 0.79
      embpress report runs/kaggle runs/avazu --across methods.md
    """
    if across is not None:
        _across(folders, form, pages, Path(across), metric or "auc")
        return
    if metric is not None:
        raise InputError("--metric goes with --across FILE")
    if len(folders) > 1:
        raise InputError(f"{len(folders)} run folders make one table, by --across FILE; a report is of one")
    folder = folders[0]
    from embpress.dlrm.runs.store import read_all
    from embpress.reports.pages import about, lacks, taking

    if pages and form != "markdown":
        raise InputError(f"--page {pages[0]} is written in markdown and does not go with --format {form}")
    for name in pages:
        about(name)  # before the records are read: a typing mistake should not wait for them
    options = {"target": target}
    if target is not None:
        if form != "markdown":
            raise InputError(f"--target is of a page in markdown and does not go with --format {form}")
        pages = (*pages, *(name for name in taking("target") if name not in pages))
    runs = read_all(Path(folder))
    if form != "markdown":
        from embpress.reports import to_csv, to_json

        sys.stdout.write((to_csv if form == "csv" else to_json)(runs))
        return
    reasons = {name: reason for name in dict.fromkeys(pages) if (reason := lacks(name, runs, options))}
    sentences = [f"--page {name}: {folder}: {reason}" for name, reason in reasons.items()]
    possible = [name for name in dict.fromkeys(pages) if name not in reasons]
    if reasons and not possible:
        raise InputError("; ".join(sentences))
    from embpress.cli.show import show_result

    show_result(runs, Path(folder), possible, options)
    for sentence in sentences:
        click.echo(f"not written: {sentence}", err=True)


def _across(folders: tuple[str, ...], form: str, pages: tuple[str, ...], to: Path, metric: str) -> None:
    from embpress.dlrm.runs.store import read_all
    from embpress.reports.comparison.across import write_across

    if pages or form != "markdown":
        raise InputError("--across is a table in markdown, and goes with neither --format nor --page")
    names = [Path(folder).resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = list(folders)
    runs = {name: read_all(Path(folder)) for name, folder in zip(names, folders)}
    click.echo(f"written: {write_across(to, runs, metric)}")
