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
    "--html",
    is_flag=True,
    help="Also write report.html beside report.md: one file with everything in it, tables that sort, values in plots.",
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
@click.option(
    "--out",
    type=click.Path(),
    metavar="FOLDER",
    help="Where the report is written. [default: the run folder; of several the table is shown alone]",
)
@click.option("--against", type=click.Path(), metavar="OLD", help="Also say what changed since this run folder.")
@click.option(
    "--tolerance", type=float, help="Times that differ by less than this ratio have not changed. [default: 1.25]"
)
def command(
    folders: tuple[str, ...],
    form: str,
    pages: tuple[str, ...],
    html: bool,
    across: str | None,
    target: str | None,
    metric: str | None,
    out: str | None,
    against: str | None,
    tolerance: float | None,
) -> None:
    """Write a report from the records of a run folder, of several together, or one table of several.

    Several folders are one report where their runs may be compared: the same data, model and training. The same method,
    size and seed counts once, the newest that ended well. Folders of different data are put side by side by --across.

    --against OLD is a regression check: exit status 1 where anything is worse beyond noise, 0 where nothing is. For a
    method and size in both it counts as worse if test AUC is lower, by a paired t test over the shared seeds at 5 %,
    corrected for the number of methods (with one seed it is unknown, and does not count); if it takes more serving
    bytes, exactly; if a step or a lookup takes --tolerance times as long, where both were timed on the same machine; or
    if it gives no result any more. What only one of them has does not count.

    \b
    Examples:
      embpress report runs/kaggle
      embpress report runs/kaggle --html
      embpress report runs/kaggle --format csv > runs.csv
      embpress report runs/kaggle --page hot-rows --page initialisation --page ranks
      embpress report runs/monday runs/tuesday --out runs/both
      embpress report runs/new --against runs/released
      embpress report runs/kaggle --page targets --target 0.79
      embpress report runs/kaggle runs/avazu --across methods.md
    """
    if across is not None and html:
        raise InputError("--html goes with the report of a run folder, not with --across")
    for flag, value in (("--out", out), ("--against", against)):
        if across is not None and value is not None:
            raise InputError(f"{flag} does not go with --across, which writes one table into its file")
    if tolerance is not None and against is None:
        raise InputError("--tolerance goes with --against OLD")
    if across is not None:
        _across(folders, form, pages, Path(across), metric or "auc")
        return
    if metric is not None:
        raise InputError("--metric goes with --across FILE")
    from embpress.cli.report_folders import read_folders, show_changes, show_only
    from embpress.compressors.guard import path
    from embpress.reports.pages import about, lacks, taking

    if html and form != "markdown":
        raise InputError(f"--html goes beside report.md and does not go with --format {form}")
    where = path(out, "--out") if out is not None else Path(folders[0]) if len(set(folders)) == 1 else None
    for flag, asked in (("--out", out), ("--against", against)):
        if asked is not None and form != "markdown":
            raise InputError(f"{flag} does not go with --format {form}, which is written to standard output")
    if html and where is None:
        raise InputError("--html of several run folders goes with --out FOLDER")
    if pages and where is None:
        raise InputError(f"--page {pages[0]} of several run folders goes with --out FOLDER")
    if pages and form != "markdown":
        raise InputError(f"--page {pages[0]} is written in markdown and does not go with --format {form}")
    for name in pages:
        about(name)  # before the records are read: a typing mistake should not wait for them
    options = {"target": target}
    if target is not None:
        if form != "markdown":
            raise InputError(f"--target is of a page in markdown and does not go with --format {form}")
        if where is None:
            raise InputError("--target of several run folders goes with --out FOLDER")
        pages = (*pages, *(name for name in taking("target") if name not in pages))
    runs = read_folders(folders)
    if form != "markdown":
        from embpress.reports import to_csv, to_json

        sys.stdout.write((to_csv if form == "csv" else to_json)(runs))
        return
    reasons = {name: reason for name in dict.fromkeys(pages) if (reason := lacks(name, runs, options))}
    sentences = [f"--page {name}: {', '.join(folders)}: {reason}" for name, reason in reasons.items()]
    possible = [name for name in dict.fromkeys(pages) if name not in reasons]
    if reasons and not possible:
        raise InputError("; ".join(sentences))
    found, section = None, ""
    if against is not None:
        from embpress.reports.changes import TOLERANCE, changes
        from embpress.reports.comparison import changes as text

        before = read_folders([against])
        found = changes(runs, before, (", ".join(folders), against), TOLERANCE if tolerance is None else tolerance)
        section = text.section(found)
    if where is None:
        show_only(runs, folders)
    else:
        from embpress.cli.show import show_result

        show_result(runs, where, possible, section, [Path(folder) for folder in folders], html, options)
    for sentence in sentences:
        click.echo(f"not written: {sentence}", err=True)
    if found is not None:
        show_changes(found)
        if found.worse:
            raise click.exceptions.Exit(1)


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
