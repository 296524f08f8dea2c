"""`embpress bench floors`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="floors")
@click.option("--out", type=click.Path(), metavar="FOLDER", help="Also write the page floors.md there.")
def command(out: str | None) -> None:
    """Counted work of each op and the least time it takes on a GPU. Measures nothing and needs no GPU.

    \b
    Examples:
      embpress bench floors
      embpress bench floors --out runs/floors
    """
    from rich.markup import escape

    from embpress.cli.show import console, table
    from embpress.compressors import InputError
    from embpress.dlrm.bench.suites.roofline import floor_cases
    from embpress.reports.bench.pages.roofline import SHORT_HEADERS, SHOWN, short_cells, write

    cases, shown = floor_cases(), console()
    shown.print(table(SHORT_HEADERS, [[escape(cell) for cell in short_cells(case)] for case in cases], left=(0, 1)))
    shown.print(f"  times on {' and '.join(peak.name for peak in SHOWN)}; TF32 is the latter's", style="dim")
    if out:
        try:
            page = write(Path(out), cases)
        except OSError as error:
            raise InputError(f"cannot write into {out}: {error.strerror or error}") from None
        shown.print(f"page: {page}", markup=False, soft_wrap=True)
