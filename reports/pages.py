"""Pages that a report may have besides itself, each about one question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embpress.reports.records import Record


@dataclass(frozen=True)
class Page:
    """A page: what the report says of it, and `make(plot folder, runs)`, which draws its plots and gives its text."""

    title: str
    about: str
    make: Callable[[Path, Sequence[Record]], str]


def _hot_rows(plots: Path, runs: Sequence[Record]) -> str:
    from embpress.reports.page_hot_rows import page  # matplotlib is slow to import and few reports have this page

    return page(plots, runs)


def _initialisation(plots: Path, runs: Sequence[Record]) -> str:
    from embpress.reports.page_init import page

    return page(plots, runs)


# by the name that a user gives, which is the file's too
PAGES: dict[str, Page] = {
    "hot-rows": Page(
        "Hot rows",
        "how soon training shows which rows are looked up most, and how many lookups a cache of them would answer.",
        _hot_rows,
    ),
    "initialisation": Page(
        "Initial values of tensor-train tables",
        "the distribution of a table's entries under each initialisation, and how far it is from a full table's.",
        _initialisation,
    ),
}
