"""The op benchmark's record as tables for a terminal and as a markdown page with its plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embpress.compressors.errors import installed
from embpress.reports import numerals
from embpress.reports.text import bullets, code, escape
from embpress.reports.text import table as markdown_table

PAGE, PLOT, RECORD = "bench-tt.md", "bench-tt.png", "bench-tt.json"
Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


@dataclass(frozen=True)
class Section:
    """One table: cells as text, and what must be known to read them."""

    title: str
    headers: list[str]
    cells: list[list[str]]
    notes: list[str]
    left: int  # columns of text, the first ones


def sections(record: Mapping[str, Any]) -> list[Section]:
    """The tables of a record, those without rows left out."""
    return list(_sections(record["rows"], _of_one_table(record), f"{record['size']['batch']:,}"))


def setting(record: Mapping[str, Any]) -> str:
    """What was measured on what, in one line."""
    where = record["environment"]
    answered = sorted(set(record["backend"].values()))
    quick = "QUICK: small sizes, few repeats, the numbers mean nothing; " if record["quick"] else ""
    threads = f"{where['threads']} thread{'s' if where['threads'] > 1 else ''}"
    device = f"{where['gpu']}, " if where.get("gpu") else ""
    return f"{quick}{device}{where['cpu']}, {threads}, torch {where['torch']}; TT-Rec's op: {' and '.join(answered)}"


def _of_one_table(record: Mapping[str, Any]) -> str:
    size = record["size"]
    return (
        f"Unless the name says otherwise: {size['rows']:,} rows of width {size['dim']}, 3 cores, rank 32, "
        f"batch {size['batch']:,} (pool: {size['bags']:,} bags), uniform ids, float32."
    )


def _sections(rows: Sequence[Row], usual: str, usual_batch: str) -> Iterator[Section]:
    def of(group: str) -> list[Row]:
        return [row for row in rows if row["group"] == group]

    peaks = [row["figures"]["gemm_gflops"] for row in rows if _is_float32(row) and row["figures"].get("gemm_gflops")]
    peak = f" In float32 its median is {sorted(peaks)[len(peaks) // 2]:,.0f} GFLOP/s." if peaks else ""
    yield from _section(
        "Training step of one table (forward + backward)",
        of("op"),
        [*_TIMES, *_RATIO, ("of peak", _share), ("n", _repeats)],
        [
            usual,
            "of peak: share of a square matrix product's speed in the same repeats that the needed operations ran at "
            f"(3 × forward of the distinct ids).{peak}",
        ],
    )
    yield from _section(
        "Cache: share of the lookups that hit it, forward + backward",
        of("cache"),
        [*_TIMES, *_RATIO, ("n", _repeats)],
        [usual],
    )
    yield from _section(
        "Lookup latency, folded, without autograd",
        of("latency"),
        [*_TIMES, ("tt − rival", _difference), *_RATIO, ("n", _repeats)],
        ["Rank 16, uniform ids."],
    )
    memory = of("memory")
    yield from _section(
        "Memory of a training step",
        [row for row in memory if row["name"] != "terabyte"],
        [
            ("rows", lambda row: f"{row['setting']['rows']:,}" if row["setting"] else numerals.MISSING),
            ("beyond gradients", _bytes("extra_bytes")),
            ("cores' gradients", _bytes("gradient_bytes")),
            ("peak", _bytes("peak_bytes")),
            ("full table", _bytes("full_bytes")),
        ],
        [
            f"Rank 32, {usual_batch} lookups, forward + backward; peak: most bytes that torch's allocator and the "
            "native ops held beyond those before the step."
        ],
        named=False,
    )
    terabyte = [row for row in memory if row["name"] == "terabyte"]
    on_gpu = any("peak_device_bytes" in row["figures"] for row in terabyte)
    yield from _section(
        "Criteo-Terabyte's 26 tables in one process",
        terabyte,
        [
            ("rows", lambda row: f"{row['setting']['rows']:,}" if row["setting"] else numerals.MISSING),
            ("peak resident", _bytes("resident_bytes")),
            ("before", _bytes("resident_before_bytes")),
            *([("peak on the GPU", _bytes("peak_device_bytes"))] if on_gpu else []),
            ("ledger", _bytes("ledger_bytes")),
            ("MLPs", _bytes("network_bytes")),
            ("full tables", _bytes("full_bytes")),
            ("step", lambda row: _time(row["tt_s"])),
        ],
        [
            "MLPerf's DLRM, tables of ten thousand rows and more as tensor trains of rank 32, a few SGD steps in a "
            "process of its own; ledger: training bytes of all tables; resident: in the host's memory; before: Python "
            "and torch; MLPs: with gradients."
        ],
        named=False,
    )
    yield from _section(
        "Training step of DLRM (Kaggle model, 7 largest tables as tensor trains)",
        of("dlrm"),
        [
            ("tt", lambda row: _time(row["tt_s"])),
            ("full", lambda row: _time(row["rival_s"])),
            ("full / tt", _median),
            _RATIO[1],
            ("step", _slower),
            ("tables", _bytes("serving_bytes")),
            ("n", _repeats),
        ],
        ["Forward, backward and SGD; step: by how much it is longer than with full tables; Zipf ids: exponent 1.05."],
        named=False,
    )


def _section(
    title: str, rows: Sequence[Row], columns: Sequence[Column], notes: list[str], named: bool = True
) -> Iterator[Section]:
    if not rows:
        return
    first: list[Column] = [("case", lambda row: str(row["name"]))]
    if named:
        first.append(("against", lambda row: str(row["rival"])))
    shown = [*first, *columns]
    cells = [[text(row) for _, text in shown] for row in rows]
    for row, line in zip(rows, cells):
        if row["status"] != "ok":
            line[len(first)] = str(row["status"])
    yield Section(title, [name for name, _ in shown], cells, [*notes, *_reasons(rows)], len(first))


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Why rows were not measured, one line a reason."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] != "ok":
            found.setdefault(f"{row['status']}: {row['reason']}", []).append(row["name"])
    return [f"{', '.join(names)}: {reason}." for reason, names in found.items()]


def _is_float32(row: Row) -> bool:
    return bool(row["setting"].get("dtype") == "float32")


def _time(seconds: float | None) -> str:
    """Three digits and the unit that suits them."""
    if seconds is None:
        return numerals.MISSING
    for unit, scale in (("µs", 1e6), ("ms", 1e3)):
        value = seconds * scale
        if abs(value) < 999.5:
            return f"{_digits(value)} {unit}"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"


def _times(value: float) -> str:
    """A ratio, three decimals where it is small."""
    return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def _median(row: Row) -> str:
    found = row["rival_over_tt"]
    return numerals.MISSING if found is None else f"{_times(found['median'])}×"


def _spread(row: Row) -> str:
    found = row["rival_over_tt"]
    return numerals.MISSING if found is None else f"{_times(found['low'])}–{_times(found['high'])}"


def _share(row: Row) -> str:
    found = row["of_peak"]
    return numerals.MISSING if found is None else f"{100 * found['median']:.0f} %"


def _difference(row: Row) -> str:
    found = row["difference_s"]
    if found is None:
        return numerals.MISSING
    return f"{'+' if found['median'] > 0 else '−'}{_time(abs(found['median']))}"


def _slower(row: Row) -> str:
    found = row["rival_over_tt"]
    if found is None:
        return numerals.MISSING
    change = 100 * (1 / found["median"] - 1)
    return f"{'+' if change >= 0 else '−'}{abs(change):.1f} %"


def _repeats(row: Row) -> str:
    return str(row["repeats"] or numerals.MISSING)


def _bytes(name: str) -> Callable[[Row], str]:
    return lambda row: numerals.size(row["figures"][name]) if name in row["figures"] else numerals.MISSING


_TIMES: list[Column] = [("tt", lambda row: _time(row["tt_s"])), ("rival", lambda row: _time(row["rival_s"]))]
_RATIO: list[Column] = [("rival / tt", _median), ("quartiles", _spread)]

_MEANINGS = [
    (
        "Times",
        "medians over the repeats. Every repeat times TT-Rec, the rival and, where there is one, the matrix product "
        "one after the other, in an order that turns; calls under 10 ms as a block of several. On CUDA they are taken "
        "between events on the device, before and after a block on an idle device.",
    ),
    (
        "rival / tt",
        "the rival's time over TT-Rec's, taken in each repeat by itself, then the median: above 1 TT-Rec is faster. "
        "Quartiles are those of the same ratios; n is the number of repeats.",
    ),
    (
        "torch.bmm",
        "the same rows from slices gathered by digit with index_select and multiplied by torch.bmm, with autograd's "
        "backward; each id by itself.",
    ),
    ("nn.EmbeddingBag", "the full table in float32, with sums and sparse gradients; no update of the rows is timed."),
    ("tensorly-torch", "FactorizedEmbedding with a block TT of the same shapes and values."),
]


def write_page(folder: Path, record: Mapping[str, Any]) -> Path:
    """Writes the plot and then the page that shows it; each whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    from embpress.dlrm.runs.store import write_atomic

    made = _plot(record["rows"])
    if made is not None:
        write_atomic(folder / PLOT, lambda file: made.savefig(file, format="png", metadata={"Software": None}))
    else:
        (folder / PLOT).unlink(missing_ok=True)
    text = page(record, made is not None)
    path = folder / PAGE
    write_atomic(path, lambda file: file.write(text.encode()))
    return path


def _gpu(where: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not where.get("gpu"):
        return []
    titles = {"compute_capability": "compute capability", "gpu_driver": "driver", "cuda": "CUDA"}
    versions = [f"{title} {where[name]}" for name, title in titles.items() if where.get(name)]
    return [("GPU", ", ".join([where["gpu"], numerals.size(where["gpu_memory_bytes"]), *versions]))]


def _plot(rows: Sequence[Row]) -> Any:
    """The figure, None where there is nothing to draw, or nothing to draw with."""
    if not installed("matplotlib"):
        return None
    from embpress.reports.bench.plot import bench_plot

    return bench_plot(rows)


def page(record: Mapping[str, Any], with_plot: bool) -> str:
    """The record as markdown."""
    parts = ["# TT-Rec's op against its rivals", escape(setting(record)) + "."]
    if with_plot:
        parts.append(f"![TT-Rec's op against its rivals]({PLOT})")
    for section in sections(record):
        cells = [[escape(cell) for cell in line] for line in section.cells]
        parts += [f"## {section.title}", markdown_table([escape(h) for h in section.headers], cells, section.left)]
        parts += [escape(note) for note in section.notes]
    where = record["environment"]
    parts += [
        "## What the columns mean",
        bullets(_MEANINGS),
        "## Environment",
        bullets(
            [
                ("Processor", f"{where['cpu']}, {where['cpu_capability']}"),
                *_gpu(where),
                ("Threads", str(where["threads"])),
                ("Platform", str(where["platform"])),
                ("Python", str(where["python"])),
                ("torch", str(where["torch"])),
                ("embpress", str(where["embpress"])),
                ("Backend", ", ".join(f"{op}: {name}" for op, name in record["backend"].items())),
                ("Run", str(record["created"])),
            ]
        ),
        "## Repeat it",
        code(str(record["command"])),
    ]
    return "\n\n".join(parts) + "\n"
