"""The GPU benchmark's record as tables for a terminal and as a markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embpress.dlrm.bench.robe import PAPER_BANDWIDTH
from embpress.dlrm.runs.store import write_text
from embpress.reports import numerals
from embpress.reports.bench.tt import Row, Section
from embpress.reports.text import bullets, code, escape, table

PAGE, RECORD = "bench-cuda.md", "bench-cuda.json"
_HEADERS = ["case", "ours, µs", "rival, µs", "rival / ours", "floor, µs", "of floor", "rival"]
_TITLES = {
    "tt": "TT-Rec: forward and backward of one table",
    "cache": "TT-Rec: rows answered from the cache, forward and backward",
    "model": "DLRM: training step",
    "robe lookup": "ROBE: lookups",
    "robe backward": "ROBE: dense backward",
}


def sections(record: Mapping[str, Any]) -> list[Section]:
    """The tables of a record, those without rows left out."""
    made = []
    for group, title in _TITLES.items():
        rows = [row for row in record["rows"] if row["group"] == group]
        if rows:
            made.append(Section(title, _HEADERS, [_cells(row) for row in rows], _notes(group, rows), 1))
    return made


def setting(record: Mapping[str, Any]) -> str:
    """What was measured on what, in one line."""
    where = record["environment"]
    quick = "QUICK: small sizes, few repeats, the numbers mean nothing; " if record["quick"] else ""
    on = where.get("gpu") or f"{where['cpu']}, no GPU: the cases are tried, the numbers mean nothing"
    plain = sorted(op for op, backend in record["backend"].items() if backend != "native")
    ops = f"plain PyTorch answers {', '.join(plain)}" if plain else "all ops native"
    return f"{quick}{on}; torch {where['torch']}; {ops}"


def page(record: Mapping[str, Any]) -> str:
    """The page in markdown."""
    peak = record.get("peak")
    meanings = [
        ("ours, rival", "median time of a call, in turn with the other; by replay of CUDA graphs where not said else"),
        ("rival / ours", "median over the repeats; above 1 ours is faster"),
        ("floor", f"counted work at the GPU's peaks ({peak['source']})" if peak else "not known for this device"),
        ("of floor", "floor / ours: 100 % would be the least time that this arithmetic can take"),
    ]
    parts = [("", "# Benchmark of the ops on a GPU"), ("", escape(setting(record)))]
    for section in sections(record):
        cells = [[escape(cell) for cell in line] for line in section.cells]
        notes = "\n\n".join(escape(note) for note in section.notes)
        parts.append((section.title, f"{table(section.headers, cells, section.left)}\n\n{notes}".rstrip()))
    parts += [("What the columns mean", bullets(meanings)), ("Repeat it", code(record["command"]))]
    return "\n\n".join(f"## {name}\n\n{body}" if name else body for name, body in parts) + "\n"


def write_page(folder: Path, record: Mapping[str, Any]) -> Path:
    """Writes the page beside the record and returns its path."""
    return write_text(folder / PAGE, page(record))


def _cells(row: Row) -> list[str]:
    if row["status"] != "ok":
        return [row["name"], row["status"], *[numerals.MISSING] * (len(_HEADERS) - 3), row["rival"]]
    return [
        row["name"],
        _us(row["ours_s"]),
        _us(row["rival_s"]),
        numerals.MISSING if row["rival_over_ours"] is None else f"{row['rival_over_ours']:.2f}",
        _us(row["floor_s"]),
        numerals.MISSING if row["of_floor"] is None else f"{100 * row['of_floor']:.0f} %",
        row["rival"],
    ]


def _notes(group: str, rows: Sequence[Row]) -> list[str]:
    notes = []
    if group == "robe backward":
        notes.append(
            "The paper is 10000x sharing (Desai and Shrivastava), Table 2 (b). It says of its hardware 'a single GPU'; "
            f"its times are scaled by {PAPER_BANDWIDTH / 1e9:.0f} GB/s, the memory bandwidth of the Quadro RTX 8000 "
            "that it names elsewhere, over this GPU's."
        )
    limits = [(row["name"], row["limit_s"], row["limit_on"]) for row in rows if row["limit_s"]]
    notes += [f"{name} should stay under {_us(limit)} µs on an {gpu}." for name, limit, gpu in limits]
    ways: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] != "ok":
            ways.setdefault(f"{row['status']}: {row['reason']}", []).append(row["name"])
        elif row["how"] == "events":
            ways.setdefault(f"by {row['how']}, {row['reason']}", []).append(row["name"])
    return [*notes, *(f"{', '.join(names)}: {what}" for what, names in ways.items())]


def _us(seconds: float | None) -> str:
    return numerals.MISSING if seconds is None else numerals.plain(1e6 * seconds)
