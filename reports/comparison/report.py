"""The report as one markdown file with its plots beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from embpress.compressors.errors import installed, require
from embpress.reports.comparison import protocol as setting
from embpress.reports.comparison import results as sections
from embpress.reports.comparison.headline import answer
from embpress.reports.pages.catalogue import PAGES
from embpress.reports.records import Record, part
from embpress.reports.summary import Summary, summary
from embpress.reports.text import escape

_CAPTIONS = {
    "auc_vs_size.png": (
        "Test AUC against size",
        "Up and to the left is better. The grey steps are the Pareto front: no measured method is both smaller and "
        "better than one on it.",
    ),
    "learning_curves.png": ("Learning curves", "Where the lines lie within one another's bands, seeds matter more."),
    "lookup_latency.png": ("Lookup latency", "Time of one call that looks up all tables, by the rows in the batch."),
}


def write_report(folder: str | os.PathLike[str], records: Iterable[Record], pages: Sequence[str] = ()) -> Path:
    """Write `report.md` and `plots/` into the folder and return the report's path.

    Each file is written whole or not at all, the report last; the same records give the same files, in any order.

    Args:
        folder: run folder.
        records: its runs.
        pages: names of `PAGES` to write beside the report, which links them. Pages that an earlier report has written
            are made anew with it, so that none of them tells of other runs than the report.
    """
    runs = sorted(records, key=lambda run: (str(run.get("created") or ""), str(run.get("id") or "")))
    rows = summary(runs)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    plots = _plots(place / "plots", rows)
    wanted = [name for name in PAGES if name in pages or (place / f"{name}.md").exists()]
    if wanted:
        require("matplotlib", f"the page {wanted[0]}")
    for name in wanted:
        write_page(place / f"{name}.md", PAGES[name].make(place / "plots", runs))
    return write_page(place / "report.md", _report(runs, rows, plots, wanted))


def _plots(folder: Path, rows: Sequence[Summary]) -> list[str] | None:
    """File names of the plots; None where there is nothing to draw with."""
    if not installed("matplotlib"):
        return None
    from embpress.reports.plotting.save import write_plots  # matplotlib is slow to import and the terminal needs none

    return [path.name for path in write_plots(folder, rows)]


def write_page(target: Path, text: str) -> Path:
    """Writes a page whole or not at all and returns its path."""
    waiting = target.with_name(f".{target.name}.{os.getpid()}")
    waiting.write_text(text, encoding="utf-8", newline="\n")
    os.replace(waiting, target)
    return target


def _report(runs: Sequence[Record], rows: Sequence[Summary], plots: Sequence[str] | None, pages: Sequence[str]) -> str:
    names = dict.fromkeys(str(part(run, "data").get("name") or "") for run in runs)
    title = ", ".join(name for name in names if name)
    intro = (
        "A click model (DLRM) keeps one vector for each id of each categorical feature, and these embedding tables are "
        "nearly all of its bytes. Here the same model is trained on the same data with several methods that make the "
        "tables smaller, and with full (uncompressed) tables to hold them against."
    )
    images = "\n\n".join("![{0}](plots/{2})\n\n{1}".format(*_CAPTIONS[name], name) for name in plots or ())
    if plots is None:
        images = "Left out: matplotlib, which draws them, is not installed where this report was written."
    parts = [
        ("", f"# Compressed embedding tables{f': {escape(title)}' if title else ''}"),
        ("", intro),
        ("Answer", escape(answer(runs))),
        ("Results", sections.main_table(rows) if rows else ""),
        ("Failures", sections.failures(rows)),
        ("Plots", images),
        ("More pages", "\n".join(f"- [{PAGES[name].title}]({name}.md): {PAGES[name].about}" for name in pages)),
        ("What the columns mean", sections.meanings(rows) if rows else ""),
        ("Size of each table", sections.table_sizes(rows)),
        ("Lookups on row 0", setting.row0(runs)),
        ("Data and protocol", setting.data_and_protocol(runs)),
        ("Environment", setting.environment(runs)),
        ("Repeat it", setting.command(runs)),
    ]
    return "\n\n".join(f"## {name}\n\n{body}" if name else body for name, body in parts if body) + "\n"
