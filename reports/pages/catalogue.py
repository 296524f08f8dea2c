"""Pages that a report may have besides itself, each about one question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embpress.reports.records import Record


@dataclass(frozen=True)
class Page:
    """A page: what the report says of it, and `make(plot folder, runs)`, which draws its plots and gives its text.

    `lacks(runs)` is why there would be nothing on it, empty where there is something.
    """

    title: str
    about: str
    make: Callable[[Path, Sequence[Record]], str]
    lacks: Callable[[Sequence[Record]], str] = lambda runs: ""


def _hot_rows(plots: Path, runs: Sequence[Record]) -> str:
    from embpress.reports.pages.hot_rows.page import page  # matplotlib is slow to import and few reports have this page

    return page(plots, runs)


def _initialisation(plots: Path, runs: Sequence[Record]) -> str:
    from embpress.reports.pages.initialisation.page import page

    return page(plots, runs)


def _ranks(plots: Path, runs: Sequence[Record]) -> str:
    from embpress.reports.pages.ranks.page import page

    return page(plots, runs)


def _lacks_ranks(runs: Sequence[Record]) -> str:
    from embpress.reports.pages.ranks.page import lacks

    return lacks(runs)


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
    "ranks": Page(
        "Rank of tensor-train tables",
        "test AUC over the rank and over the bytes it costs, for each initialisation and cache that was run.",
        _ranks,
        _lacks_ranks,
    ),
}
