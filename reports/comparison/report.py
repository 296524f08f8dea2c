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
from embpress.reports.comparison.html_report import collected, html_report
from embpress.reports.comparison.reference import reference
from embpress.reports.comparison.serving import serving_steps
from embpress.reports.comparison.tuning import tuning
from embpress.reports.comparison.use import use
from embpress.reports.focus import focus
from embpress.reports.summary import Summary, summary
from embpress.reports.text import escape
from embpress.reports.uncertainty import section as uncertainty
from embpress.reports.uncertainty.judge import Judgement, judge

HTML = "report.html"
MANY, FEW = 30, 16  # rows that a table is read to the end with; of more so many stand in the first
DETAILS = "---"  # before it one page for the hurried, after it what HTML folds


def write_report(
    folder: str | os.PathLike[str],
    runs: Iterable[Run],
    pages: Sequence[str] = (),
    changes: str = "",
    sources: Sequence[str | os.PathLike[str]] = (),
    html: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.md` and `plots/` into the folder and return the path of `report.md`.

    Each file is written whole or not at all, the report last; the same runs give the same files, in any order.

    Args:
        folder: run folder.
        runs: its runs.
        pages: names of pages to write beside the report, which links them. Pages that an earlier report has written
            are made anew with it, so that none of them tells of other runs than the report.
        changes: what changed against earlier runs, a section in markdown (`comparison.changes`).
        sources: run folders with the runs' predictions and labels, where it is not `folder`.
        html: also write `report.html`, the report and its pages as one file with the plots inside; one that an
            earlier report has written is made anew in any case.
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
    html = html or (folder / HTML).exists()
    with collected(html) as pictures:
        images = _plots(folder / "plots", rows)
        wanted = [name for name in page_folder.page_names() if name in pages or (folder / f"{name}.md").exists()]
        made = {}
        for name in dict.fromkeys([*wanted, *pages]):
            page = page_folder.load_page(name)
            made[f"{name}.md"] = page.make(folder / "plots", runs, **page_folder.options_of(page, options))
    for name, text in made.items():
        write_text(folder / name, text)
    judged = judge(rows, [Path(source) for source in sources] or [folder])
    report = _report(folder, runs, rows, images, wanted, changes, judged)
    if html:
        write_text(folder / HTML, html_report(folder, report, rows, pictures, made))
    return write_text(folder / "report.md", report)


def _plots(folder: Path, rows: Sequence[Summary]) -> str:
    """Draws the plots and gives the markdown that shows them."""
    if not installed("matplotlib"):
        return "Left out: matplotlib, which draws them, is not installed where this report was written."
    from embpress.reports.plotting.save import save_all  # matplotlib is slow to import and the terminal needs none

    plots = {f"{name}.png": plot for name, plot in found.modules("embpress.reports.comparison.plots").items()}
    drawn = save_all(folder, {name: partial(plot.draw, rows) for name, plot in plots.items()})
    return "\n\n".join(f"![{plots[name].TITLE}](plots/{name})\n\n{plots[name].CAPTION}" for name in drawn)


def _report(
    folder: Path,
    runs: Sequence[Run],
    rows: Sequence[Summary],
    images: str,
    pages: Sequence[str],
    changes: str,
    judged: Judgement,
) -> str:
    title = ", ".join(dict.fromkeys(run.data.name for run in runs))
    intro = (
        "A click model keeps one vector for each id of each categorical feature, and these embedding tables are "
        "nearly all of its bytes. Here the same model is trained on the same data with several methods that make the "
        "tables smaller, and with full (uncompressed) tables to compare them with."
    )
    links = ((name, *page_folder.about(name)) for name in pages)
    answer = "\n\n".join(part for part in (escape(headline(runs, judged)), use(runs, folder, judged)) if part)
    parts = [
        ("", f"# Compressed embedding tables: {escape(title)}"),
        ("Answer", answer),
        ("Results", _results(rows, judged)),
        ("What changed", changes),
        ("Failures", sections.failures(rows)),
        ("Plots", images),
        ("", DETAILS),
        ("More pages", "\n".join(f"- [{title}]({name}.md): {about}" for name, title, about in links)),
        (uncertainty.TITLE, uncertainty.section(judged)),
        ("All rows", _all_rows(rows, judged)),
        ("What was compared", intro),
        ("What the columns mean", sections.meanings(rows)),
        ("From training to serving", serving_steps(rows)),
        ("Tuning", tuning(rows)),
        ("Size of each table", sections.table_sizes(rows)),
        ("Lookups on row 0", setting.row0(runs)),
        ("Data and protocol", setting.data_and_protocol(runs)),
        ("Environment", setting.environment(runs)),
        ("Repeat it", setting.command(runs)),
    ]
    return "\n\n".join(f"## {name}\n\n{body}" if name else body for name, body in parts if body) + "\n"


def _results(rows: Sequence[Summary], judged: Judgement) -> str:
    """The main table; of many rows those that are looked at first."""
    shown = focus(rows, FEW if len(rows) > MANY else len(rows))
    text = f"Full tables and the best test AUC of each size: {len(shown)} of [all {len(rows)} rows](#all-rows)."
    published = reference(rows)
    parts = [
        "" if len(shown) == len(rows) else text,
        f"{escape(published)}." if published else "",
        sections.main_table(shown, judged),
    ]
    return "\n\n".join(part for part in parts if part)


def _all_rows(rows: Sequence[Summary], judged: Judgement) -> str:
    """Every row by size, where the main table has not all of them."""
    if len(rows) <= MANY:
        return ""
    by_size = sorted(rows, key=lambda row: (not row.is_full, row.asked_ratio or 0, -(row.asked_budget or 0)))
    return sections.main_table(by_size, judged)
