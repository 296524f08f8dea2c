"""The report as one markdown file with its plots beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from embpress.compressors.errors import InputError, installed
from embpress.dlrm.runs.record import Run
from embpress.dlrm.runs.store import clean, write_text
from embpress.kernels import found
from embpress.reports import pages as page_folder
from embpress.reports.comparison import protocol as setting
from embpress.reports.comparison import results as sections
from embpress.reports.comparison.headline import headline
from embpress.reports.comparison.serving import serving_steps
from embpress.reports.summary import Summary, summary
from embpress.reports.text import escape


def write_report(
    folder: str | os.PathLike[str],
    runs: Iterable[Run],
    pages: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.md` and `plots/` into the folder and return the report's path.

    Each file is written whole or not at all, the report last; the same runs give the same files, in any order.

    Args:
        folder: run folder.
        runs: its runs.
        pages: names of pages to write beside the report, which links them. Pages that an earlier report has written
            are made anew with it, so that none of them tells of other runs than the report.
        options: of pages that take some, by name, such as `target`.

    Raises:
        InputError: no runs, no such page, no matplotlib to draw it with, or the folder cannot be written.
    """
    runs = sorted(runs, key=lambda run: (run.created, run.id))
    if not runs:
        raise InputError("a report needs at least one run")
    rows = summary(runs)
    folder = Path(folder)
    clean(folder)
    images = _plots(folder / "plots", rows)
    wanted = [name for name in page_folder.page_names() if name in pages or (folder / f"{name}.md").exists()]
    for name in dict.fromkeys([*wanted, *pages]):
        page = page_folder.load_page(name)
        text = page.make(folder / "plots", runs, **page_folder.options_of(page, options))
        write_text(folder / f"{name}.md", text)
    return write_text(folder / "report.md", _report(runs, rows, images, wanted))


def _plots(folder: Path, rows: Sequence[Summary]) -> str:
    """Draws the plots and gives the markdown that shows them."""
    if not installed("matplotlib"):
        return "Left out: matplotlib, which draws them, is not installed where this report was written."
    from embpress.reports.plotting.save import save_all  # matplotlib is slow to import and the terminal needs none

    plots = {f"{name}.png": plot for name, plot in found.modules("embpress.reports.comparison.plots").items()}
    drawn = save_all(folder, {name: partial(plot.draw, rows) for name, plot in plots.items()})
    return "\n\n".join(f"![{plots[name].TITLE}](plots/{name})\n\n{plots[name].CAPTION}" for name in drawn)


def _report(runs: Sequence[Run], rows: Sequence[Summary], images: str, pages: Sequence[str]) -> str:
    title = ", ".join(dict.fromkeys(run.data.name for run in runs))
    intro = (
        "A click model keeps one vector for each id of each categorical feature, and these embedding tables are "
        "nearly all of its bytes. Here the same model is trained on the same data with several methods that make the "
        "tables smaller, and with full (uncompressed) tables to compare them with."
    )
    links = ((name, *page_folder.about(name)) for name in pages)
    parts = [
        ("", f"# Compressed embedding tables: {escape(title)}"),
        ("", intro),
        ("Answer", escape(headline(runs))),
        ("Results", sections.main_table(rows)),
        ("From training to serving", serving_steps(rows)),
        ("Failures", sections.failures(rows)),
        ("Plots", images),
        ("More pages", "\n".join(f"- [{title}]({name}.md): {about}" for name, title, about in links)),
        ("What the columns mean", sections.meanings(rows)),
        ("Size of each table", sections.table_sizes(rows)),
        ("Lookups on row 0", setting.row0(runs)),
        ("Data and protocol", setting.data_and_protocol(runs)),
        ("Environment", setting.environment(runs)),
        ("Repeat it", setting.command(runs)),
    ]
    return "\n\n".join(f"## {name}\n\n{body}" if name else body for name, body in parts if body) + "\n"
