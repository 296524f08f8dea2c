"""The page of the sharing paper's Table 2: the general one, with the paper's ratios beside ours."""

from __future__ import annotations

from embpress.reports import numerals
from embpress.reports.bench import page
from embpress.reports.bench.cells import BASELINE, OF_BASELINE, OURS, REPEATS, Row, Section, alike, section, times


class Page(page.Page):
    """A table a pass, and one a pass over chunk sizes."""

    title = "ROBE's passes as in Table 2 of 10000x sharing"

    def sections(self) -> list[Section]:
        """The tables, those without rows left out."""
        columns = [OURS, BASELINE, OF_BASELINE, ("the paper's", _published), REPEATS]
        titles = {
            "lookup": "Lookups of larger tables against the smallest at the same ratio",
            "lookup by chunk": "Lookups by chunk size against chunks of 32, at ratio 100",
            "backward": "Dense gradient of the array against the sparse one, by size and ratio",
            "backward by chunk": "Dense gradient of the array against the sparse one, by chunk size at ratio 100",
        }
        return [
            each
            for group, title in titles.items()
            for each in section(title, self.of(group), columns, alike(self.of(group)))
        ]

    def meanings(self) -> list[tuple[str, str]]:
        """What the columns mean."""
        return [
            *super().meanings()[:1],
            (
                "ours / baseline",
                "taken in each repeat by itself, then the median; it should be within (≤) what is said behind it.",
            ),
            (
                "the paper's",
                "the same from its times (Desai and Shrivastava, Table 2), on a single GPU; only some sizes are there.",
            ),
            (
                "sparse",
                "the gradient of the touched elements alone, by the paper's Algorithm 1: their distinct indices, the "
                "sums for each, a sparse tensor. The indices are kept from the forward, as there. Above 1 in ours / "
                "baseline the sparse one is faster; an optimizer's step, which dense gradients make longer, is not in.",
            ),
        ]


def _published(row: Row) -> str:
    return f"{times(row['figures']['published'])}×" if "published" in row["figures"] else numerals.MISSING
