"""What commands print: tables, progress, log lines."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from embpress.compressors.errors import InputError

if TYPE_CHECKING:
    from embpress.dlrm.runs.record import Run
    from embpress.reports.bench.cells import Section
    from embpress.reports.uncertainty.judge import Judgement

# where the output is no terminal nothing says how wide it may be
_WIDTH = 100
_LOG_SECONDS = 60.0  # between two lines of a log about the same run, later a tenth of its time
_NAME = 24  # characters of a name that stays in one piece where a table has to be narrower


class _Console(Console):
    """A console whose reader may go away (`| head`) between one print and the next: no mistake, as `main` has it."""

    def on_broken_pipe(self) -> None:
        """Ends the command well; what is still to be written goes nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


def console(stderr: bool = False) -> Console:
    """A console of the terminal's width, or of 100 columns in a log."""
    out = _Console(stderr=stderr, highlight=False, soft_wrap=False)
    return out if out.is_terminal else _Console(stderr=stderr, highlight=False, width=_WIDTH)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Table:
    """A table with numbers to the right; `left` are the columns of text."""
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, header in enumerate(headers):
        name = i in left and max((len(row[i]) for row in rows), default=0) <= _NAME
        drawn.add_column(header, justify="left" if i in left else "right", overflow="fold", no_wrap=name)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def summary_table(runs: Sequence[Run], out: Console, judged: Judgement | None = None) -> None:
    """Prints the comparison's table and its notes."""
    from embpress.reports import summary_cells

    headers, rows, notes = summary_cells(runs, out.width, judged)
    plain = [[escape(cell) for cell in row] for row in rows]
    out.print(table(headers, plain, left=(0, len(headers) - 1)))
    for note in notes:
        out.print(f"  {note}", markup=False, style="dim")


def show_result(
    runs: Sequence[Run],
    folder: Path,
    pages: Sequence[str] = (),
    changes: str = "",
    sources: Sequence[Path] = (),
    html: bool = False,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report of a run folder, with pages asked for, and prints table, answer and where the report is.

    What uses the answer, a command and a line of Python, is printed below it.

    Raises:
        InputError: the folder cannot be written, or the disk is full; the records are untouched.
    """
    from embpress.reports import headline, use_lines, write_report
    from embpress.reports.summary import summary
    from embpress.reports.uncertainty.judge import judge

    try:
        report = write_report(folder, runs, pages, changes, sources, html, options)
    except OSError as error:
        raise InputError(f"cannot write the report into {folder}: {error.strerror or error}") from None
    out, judged = console(), judge(summary(runs), sources or [folder])
    summary_table(runs, out, judged)
    out.print()
    out.print(headline(runs, judged), markup=False)
    for line in use_lines(runs, folder, judged):
        out.print(line, markup=False, soft_wrap=True)
    out.print(f"report: {report}", markup=False, soft_wrap=True)
    if report.with_suffix(".html").exists():
        out.print(f"page: {report.with_suffix('.html')}", markup=False, soft_wrap=True)
    for name in dict.fromkeys(pages):
        out.print(f"page: {report.with_name(name)}.md", markup=False, soft_wrap=True)


def show_sections(setting: str, sections: Sequence[Section], page: Path) -> None:
    """Prints the tables of a benchmark below what was measured on what, and where its page is."""
    out = console()
    out.print(setting, markup=False, style="dim")
    for section in sections:
        out.print()
        out.print(section.title, markup=False, style="bold")
        plain = [[escape(cell) for cell in line] for line in section.cells]
        out.print(table(section.headers, plain, left=range(section.left)))
        for note in section.notes:
            out.print(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
    out.print()
    out.print(f"page: {page}", markup=False, soft_wrap=True)


@contextmanager
def warnings_as_lines(log: Callable[[str], None]) -> Iterator[None]:
    """Shows what is said of runs in the middle as lines; other warnings as ever."""
    from embpress.dlrm.runs.partial import PartialWarning

    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, PartialWarning):
                log(f"warning: {message}")
            else:
                shown(message, category, *where, **more)

        warnings.simplefilter("always", PartialWarning)
        warnings.showwarning = show
        yield


def duration(seconds: float) -> str:
    """About so long: `4 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s" if seconds else "0 s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class RunProgress:
    """Progress of runs on stderr: a bar at a terminal; in a log finished runs, and how far a long one is."""

    def __init__(self) -> None:
        self.console = console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def log(self, text: str) -> None:
        """One line, above the bar."""
        self.bar.console.print(text, markup=False)

    def start(self, number: int, total: int, title: str) -> Any:
        """The progress callback of one run: samples done, samples in all, what is going on."""
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        name = f"[{number}/{total}] {title}"
        task = self.bar.add_task(name, total=None, rate="")
        began = said = time.perf_counter()
        first: int | None = None

        def advance(done: int, of: int, what: str) -> None:
            nonlocal began, first, said
            if not of:
                self.bar.update(task, rate=what, total=None)
                return
            now, done = time.perf_counter(), min(done, of)
            if first is None:  # what came before is no training, and a run that was taken up has done some already
                began, first = now, done
            rate = (done - first) / max(1e-9, now - began)
            self.bar.update(task, completed=done, total=of, rate=f"{rate:,.0f} samples/s")
            if self.bar.disable and rate and done < of and now - said > max(_LOG_SECONDS, 0.1 * (now - began)):
                said, left = now, duration((of - done) / rate)
                self.log(f"{name}: {done / of:.0%} of {what}, {rate:,.0f} samples/s, about {left} left")

        return advance
