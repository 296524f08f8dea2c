"""`embpress report` of several run folders, and against an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embpress.dlrm.runs.record import Run
    from embpress.reports.changes import Changes


def read_folders(folders: Sequence[str]) -> list[Run]:
    """The runs of one folder, or of several that may be compared, each method, size and seed once."""
    from embpress.dlrm.runs.store import read_all
    from embpress.reports.merge import merged

    found = {folder: read_all(Path(folder)) for folder in folders}
    return merged(found) if len(found) > 1 else found[folders[0]]


def show_only(runs: Sequence[Run]) -> None:
    """Prints the table and the answer; nothing is written."""
    from embpress.cli.show import console, summary_table
    from embpress.reports import headline

    out = console()
    summary_table(runs, out)
    out.print()
    out.print(headline(runs), markup=False)
    out.print("not written: --out FOLDER writes the report of several run folders", markup=False)


def show_changes(found: Changes) -> None:
    """Prints the table of what changed, what is worse in a sentence, and what counts."""
    from rich.markup import escape

    from embpress.cli.show import console, table
    from embpress.reports.comparison.changes import headers_and_cells, sentences, what_counts

    headers, rows = headers_and_cells(found)
    out = console()
    out.print()
    out.print(table(headers, [[escape(cell) for cell in row] for row in rows], left=(0, len(headers) - 1)))
    out.print(f"  {what_counts(found.tolerance)}", markup=False, style="dim")
    out.print()
    for line in sentences(found):
        out.print(line, markup=False)
