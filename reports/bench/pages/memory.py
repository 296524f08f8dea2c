"""The page of the memory beyond input, output and gradient."""

from __future__ import annotations

from embpress.reports import numerals
from embpress.reports.bench import page
from embpress.reports.bench.cells import Column, Section, alike, section, size


def _a_sample(name: str) -> Column:
    return "a sample", lambda row: numerals.size(row["figures"][name]) if name in row["figures"] else numerals.MISSING


class Page(page.Page):
    """One table: a method's rows, by table size and batch."""

    def sections(self) -> list[Section]:
        """The table."""
        columns: list[Column] = [
            ("lookup", size("lookup_extra_bytes")),
            _a_sample("lookup_extra_bytes_a_sample"),
            ("step", size("step_extra_bytes")),
            _a_sample("step_extra_bytes_a_sample"),
            ("gradient", size("gradient_bytes")),
            ("table", size("table_bytes")),
        ]
        return section("Peak bytes beyond input, output and gradient", self.rows, columns, alike(self.rows), False)

    def meanings(self) -> list[tuple[str, str]]:
        """What the columns mean."""
        beyond = (
            "the most bytes that torch's allocator and the native ops held at once beyond those before the call, less "
            "the output"
        )
        return [
            ("lookup", f"of a lookup without autograd: {beyond}."),
            ("step", f"of forward, backward and SGD: {beyond} and the parameters' gradients."),
            ("a sample", "the same over the batch: where it does not depend on the batch, memory grows with it alone."),
            ("gradient", "of all parameters; a sparse one has the ids and the rows of the batch."),
            ("table", "the parameters as they are trained."),
        ]
