"""`embpress data`: click data as a folder of columns."""

from __future__ import annotations

from typing import Any

import click

from embpress.cli.numbers import Whole
from embpress.cli.options import data_keywords, data_options, tell_order


@click.group(name="data")
def command() -> None:
    """Prepare click data that are read again and again, or are larger than memory.

    \b
    Examples:
      embpress data list
      embpress data prepare 'day_*.gz' --dataset criteo-terabyte --to prepared/terabyte
      embpress compare prepared/terabyte --ratio 1000 --preset terabyte
    """


@command.command(name="prepare")
@data_options
@click.option(
    "--hash-ids",
    type=Whole(1, 30),
    metavar="BITS",
    help="A column with more than 2**BITS values has no vocabulary: an id's row is its hash of so many bits, "
    "whatever --min-count says.",
)
@click.option(
    "--table-rows",
    metavar="ROWS",
    help="Rows of each table, 40M,40M,39060 or criteo-terabyte, where they are known to be more than these files have "
    "ids: the model has them all, and those beyond are never looked up.",
)
@click.option("--to", required=True, type=click.Path(), metavar="DIR", help="The folder to write; new or empty.")
def prepare(to: str, hash_ids: int | None, table_rows: str | None, **options: Any) -> None:
    """Write files as a folder of columns, which any command takes as it takes the files.

    FILE may be a pattern in quotes or a folder of parts, in natural order. The folder that is written is mapped, not
    read: memory is needed for what a step uses. Split, vocabularies and ids are those that the files and options give
    anyway, and stand in the folder. The files are read once, in blocks. An interrupted command leaves no folder; the
    same one starts anew.

    \b
    Examples:
      embpress data prepare train.txt --format criteo --to prepared/kaggle
      embpress data prepare 'days/day_*.gz' --to prepared/days
      embpress compare prepared/kaggle --methods full,tt,robe --ratio 1000
    """
    from embpress.cli.show import console
    from embpress.compressors.errors import InputError
    from embpress.dlrm.data import describe, load
    from embpress.dlrm.data.prepare.prepare import prepare as write

    if not options["paths"]:
        raise InputError("embpress data prepare needs at least one data file")
    tell_order(options)
    keywords = data_keywords(options)
    sizes = None
    if table_rows is not None:
        from embpress.dlrm.scale.parsing import as_tables

        sizes = as_tables(None, table_rows, None, 1)
    with console(stderr=True).status("reading") as status:
        folder = write(
            keywords.pop("paths"),
            to,
            hash_ids=hash_ids,
            table_rows=sizes,
            progress=lambda line: status.update(line),
            **keywords,
        )
    out = console()
    out.print(describe(load(folder)), markup=False)
    out.print(f"prepared: {folder}", markup=False, soft_wrap=True)


@command.command(name="list")
def show() -> None:
    """Show the public data sets that --dataset knows: files, rows, what they are, a published AUC.

    Nothing is downloaded: give their files, plain or gzipped, or the folder that holds them.
    """
    from embpress.cli.show import console
    from embpress.dlrm.data.named import about, datasets

    out = console()
    for name, dataset in datasets().items():
        files = [*dataset.train, *dataset.test]
        shown = ", ".join(files) if len(files) < 4 else f"{files[0]} … {files[-1]}"
        count = "" if dataset.rows is None else f" ({dataset.rows:,} rows)"
        checked = ", checked by their MD5" if dataset.md5 else ""
        out.print(f"{name}: {about(name)}", markup=False)
        out.print(f"  {shown}{count}{checked}; {dataset.source}", markup=False)
        if dataset.auc is not None:
            out.print(f"  AUC {dataset.auc:.4f}: {dataset.auc_from}", markup=False)
