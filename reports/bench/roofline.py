"""The page of floors: counted work of each op, and the least time that it takes on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embpress.dlrm.bench.peaks import A100, H200, Peak
from embpress.dlrm.bench.roofline_cases import ROWS, FloorCase
from embpress.dlrm.runs.store import write_text
from embpress.reports.numerals import plain
from embpress.reports.text import bullets, code, escape, table

PAGE = "floors.md"
SHOWN = (A100, H200)
HEADERS = [
    "op", "pass", "lookups", "GFLOP", "MB read", "MB written",
    *(f"{peak.name}, µs" for peak in SHOWN), f"{H200.name} in TF32, µs", "bound",
]  # fmt: skip
SHORT_HEADERS = [
    "op",
    "pass",
    "lookups",
    "GFLOP",
    "MB",
    *(f"{peak.name.split()[0]} µs" for peak in SHOWN),
    "TF32 µs",
]


def cells(case: FloorCase) -> list[str]:
    """A case as a line of the table; the bound is that of `H200` in float32."""
    work = case.work
    return [
        case.op,
        case.stage,
        f"{case.lookups:,}",
        plain(work.flops / 1e9, 3),
        plain(work.read / 1e6),
        plain(work.written / 1e6),
        *(plain(1e6 * work.floor(peak)) for peak in SHOWN),
        plain(1e6 * work.floor(H200, tf32=True)),
        work.bound(H200),
    ]


def short_cells(case: FloorCase) -> list[str]:
    """The same for a terminal, under `SHORT_HEADERS`."""
    op, stage, lookups, gflop, _, _, *times = cells(case)
    return [op, stage, lookups, gflop, plain(case.work.moved / 1e6), *times[:-1]]


def page(cases: Sequence[FloorCase]) -> str:
    """The page in markdown."""
    intro = (
        "A floor is the longer of two times: counted floating point operations at the GPU's peak rate, and counted "
        "bytes at its memory's bandwidth. No implementation of the same arithmetic is faster, except that a call whose "
        "bytes are still in the GPU's L2 cache from the call before need not wait for the memory. How near one comes "
        "is its share of the floor. Everything here is counted, nothing is measured."
    )
    meanings = [
        ("lookups", f"one id a bag, uniform over {ROWS:,} rows (Criteo-Kaggle's largest table); float32, int64 ids"),
        (
            "bytes",
            "device memory: each input read once, each output written once; of a table, the distinct rows or slices "
            "that so many lookups are expected to touch",
        ),
        ("TT", "width 64, 3 cores; both: forward and backward together, dense gradients of the cores"),
        ("recompute", "the backward makes the partial products again instead of keeping them (TT-Rec, Algorithm 2)"),
        ("grouped", "lookups that share their first digits share that product; else each lookup makes its own"),
        ("EmbeddingBag", "PyTorch's nn.EmbeddingBag on the full table, for comparison"),
        ("dense, sparse", "dense gradients write every row of the table, sparse ones a row and an id a lookup"),
        ("TF32", "matrix products in the tensor cores; the float32 columns are outside them"),
    ]
    peaks = [(peak.name, _rates(peak)) for peak in SHOWN]
    parts = [
        ("", "# Floors of the embedding ops"),
        ("", intro),
        ("Floors", table(HEADERS, [[escape(cell) for cell in cells(case)] for case in cases], left=2)),
        ("What the words mean", bullets(meanings)),
        ("Peaks", bullets(peaks)),
        ("Repeat it", code("embpress bench floors --out reports/published/floors")),
    ]
    return "\n\n".join(f"## {name}\n\n{body}" if name else body for name, body in parts) + "\n"


def write(folder: Path, cases: Sequence[FloorCase]) -> Path:
    """Writes the page into the folder and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_text(folder / PAGE, page(cases))


def _rates(peak: Peak) -> str:
    if peak.copied is None:
        return peak.source
    share = peak.copied / peak.bandwidth
    return (
        f"{peak.source}. A large copy within the device memory of such a GPU was seen to move {peak.copied / 1e12:.1f} "
        f"TB/s, read and written together, {share:.0%} of the datasheet's bandwidth: a floor by bytes is that much "
        "further away than the datasheet says"
    )
