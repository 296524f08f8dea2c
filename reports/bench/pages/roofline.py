"""The page of rooflines: counted work of each op, and the shortest time that it takes on a GPU."""

from __future__ import annotations

from embpress.dlrm.bench.peaks import A100, H200, Peak
from embpress.dlrm.bench.roofline import Work
from embpress.dlrm.bench.suites.roofline import ROWS
from embpress.reports.bench import page
from embpress.reports.bench.cells import Row, Section
from embpress.reports.numerals import plain
from embpress.reports.text import bullets, code, escape, table

SHOWN = (A100, H200)
HEADERS = [
    "op", "pass", "lookups", "GFLOP", "MB read", "MB written",
    *(f"{peak.name}, µs" for peak in SHOWN), f"{H200.name} in TF32, µs", "bound",
]  # fmt: skip
SHORT_HEADERS = ["op", "pass", "lookups", "GFLOP", "MB", *(f"{peak.name.split()[0]} µs" for peak in SHOWN), "TF32 µs"]


def work_of(row: Row) -> Work:
    """The work that a row counts."""
    return Work(row["flops"], row["figures"]["read_bytes"], row["figures"]["written_bytes"])


def cells(row: Row) -> list[str]:
    """A row as a line of the table; the bound is that of `H200` in float32."""
    work, setting = work_of(row), row["setting"]
    return [
        setting["op"],
        setting["pass"],
        f"{setting['lookups']:,}",
        plain(work.flops / 1e9, 3),
        plain(work.read / 1e6),
        plain(work.written / 1e6),
        *(plain(1e6 * work.roofline(peak)) for peak in SHOWN),
        plain(1e6 * work.roofline(H200, tf32=True)),
        work.bound(H200),
    ]


class Page(page.Page):
    """Nothing of it depends on where it was written."""

    def __init__(self, record: Row) -> None:
        super().__init__(record)
        self.stem = "roofline"

    def setting(self) -> str:
        """How to read the times."""
        return f"times on {' and '.join(peak.name for peak in SHOWN)}; TF32 is the latter's"

    def sections(self) -> list[Section]:
        """The table for a terminal, under `SHORT_HEADERS`."""
        lines = []
        for row in self.rows:
            op, stage, lookups, gflop, _, _, *times = cells(row)
            lines.append([op, stage, lookups, gflop, plain(work_of(row).moved / 1e6), *times[:-1]])
        return [Section("Rooflines", SHORT_HEADERS, lines, [], 2)]

    def text(self, plot: str = "") -> str:
        """The page in markdown."""
        intro = (
            "A roofline is the longer of two times: counted floating point operations at the GPU's peak rate, and "
            "counted bytes at its memory's bandwidth. No implementation of the same arithmetic is faster, except that "
            "a call whose bytes are still in the GPU's L2 cache from the call before need not wait for the memory. How "
            "near one comes is its share of the roofline. Everything here is counted, nothing is measured."
        )
        meanings = [
            (
                "lookups",
                f"one id a bag, uniform over {ROWS:,} rows (Criteo-Kaggle's largest table); float32, int64 ids",
            ),
            (
                "bytes",
                "device memory: each input read once, each output written once; of a table, the distinct rows or "
                "slices that so many lookups are expected to touch",
            ),
            ("TT", "width 64, 3 cores; both: forward and backward together, dense gradients of the cores"),
            (
                "recompute",
                "the backward makes the partial products again instead of keeping them (TT-Rec, Algorithm 2)",
            ),
            ("grouped", "lookups that share their first digits share that product; else each lookup makes its own"),
            ("EmbeddingBag", "PyTorch's nn.EmbeddingBag on the full table, for comparison"),
            ("dense, sparse", "dense gradients write every row of the table, sparse ones a row and an id a lookup"),
            ("TF32", "matrix products in the tensor cores; the float32 columns are outside them"),
        ]
        parts = [
            ("", "# Rooflines of the embedding ops"),
            ("", intro),
            ("Rooflines", table(HEADERS, [[escape(cell) for cell in cells(row)] for row in self.rows], left=2)),
            ("What the words mean", bullets(meanings)),
            ("Peaks", bullets([(peak.name, _rates(peak)) for peak in SHOWN])),
            ("Repeat it", code("embpress bench roofline --out reports/published/roofline")),
        ]
        return "\n\n".join(f"## {name}\n\n{body}" if name else body for name, body in parts) + "\n"


def _rates(peak: Peak) -> str:
    if peak.copied is None:
        return peak.source
    share = peak.copied / peak.bandwidth
    return (
        f"{peak.source}. A large copy within the device memory of such a GPU was seen to move {peak.copied / 1e12:.1f} "
        f"TB/s, read and written together, {share:.0%} of the datasheet's bandwidth: a roofline by bytes is that much "
        "further away than the datasheet says"
    )
