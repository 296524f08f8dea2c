"""A benchmark's record as tables for a terminal and as a markdown page; a suite's own page says more than this one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embpress.compressors.errors import installed
from embpress.compressors.guard import counted
from embpress.dlrm.runs.store import write_atomic
from embpress.kernels import found
from embpress.reports import numerals
from embpress.reports.bench.cells import (
    BASELINE,
    OURS,
    QUARTILES,
    RATIO,
    REPEATS,
    Column,
    Row,
    Section,
    alike,
    section,
)
from embpress.reports.text import bullets, code, escape, table

_FOLDER = "embpress.reports.bench.pages"


def page_of(record: Mapping[str, Any]) -> Page:
    """The page of the record's suite: its own where the folder `pages` has one of its name, else the general one."""
    name = record["suite"]
    if name in found.names(_FOLDER):
        page: Page = importlib.import_module(f"{_FOLDER}.{name}").Page(record)
        return page
    return Page(record)


class Page:
    """The general page: a table a group of cases.

    Args:
        record: of a run of the suite, as `embpress bench` writes it.

    Attributes:
        title: of the page.
        stem: name of the files of a run, `bench-NAME`.
    """

    title = ""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record, self.rows = record, record["rows"]
        self.title = self.title or str(record["about"]).rstrip(".")
        self.stem = f"bench-{record['suite']}"

    def of(self, group: str) -> list[Row]:
        """Rows of a group."""
        return [row for row in self.rows if row["group"] == group]

    def setting(self) -> str:
        """What was measured on what, in one line."""
        where = self.record["environment"]
        quick = "QUICK: small sizes, few repeats, the numbers mean nothing; " if self.record["quick"] else ""
        threads = counted(where["threads"], "thread")
        device = f"{where['gpu']}, " if where.get("gpu") else ""
        replay = "; times by replay of CUDA graphs where not said else" if self.record["device"] != "cpu" else ""
        answering = " and ".join(sorted(set(self.record["backend"].values())))
        return f"{quick}{device}{where['cpu']}, {threads}, torch {where['torch']}; ops: {answering}{replay}"

    def sections(self) -> list[Section]:
        """The tables, those without rows left out."""
        groups = dict.fromkeys(row["group"] for row in self.rows)
        columns = [OURS, BASELINE, RATIO, QUARTILES, REPEATS]
        return [each for group in groups for each in self._section(group, columns)]

    def _section(self, group: str, columns: Sequence[Column]) -> list[Section]:
        """A group's table; where limits need the room, a baseline that all rows have is said below it."""
        rows = self.of(group)
        baselines = {row["baseline"] for row in rows}
        named = len(baselines) > 1 or all(row["limit"] is None for row in rows)
        notes = [*self.notes(group), *([] if named else [f"The baseline: {baselines.pop()}."]), *alike(rows)]
        return section(group, rows, columns, notes, named)

    def notes(self, group: str) -> list[str]:
        """What must be known to read a group's table."""
        return []

    def meanings(self) -> list[tuple[str, str]]:
        """What the columns mean."""
        peak = self.record.get("peak")
        return [
            (
                "Times",
                "medians over the repeats. Every repeat times ours, the baseline and, where there is one, the matrix "
                "product one after the other, in an order that turns; short calls as a block of several.",
            ),
            (
                "baseline / ours",
                "taken in each repeat by itself, then the median: above 1 ours is faster. Quartiles are those of the "
                "same ratios; n is the number of repeats.",
            ),
            *(
                [("ours / baseline", "the inverse of baseline / ours; it should be within (≤) what is said behind it.")]
                if any(row["limit"] is not None for row in self.rows)
                else []
            ),
            *(
                [
                    ("roofline", f"the shortest time of the counted work at the GPU's peaks ({peak['source']})."),
                    ("of roofline", "roofline / ours: 100 % is the shortest time that this arithmetic can take."),
                ]
                if peak
                else []
            ),
        ]

    def figure(self) -> Any:
        """The plot, None where there is nothing to draw."""
        return None

    def text(self, plot: str = "") -> str:
        """The page in markdown, with a picture of this file's name."""
        parts = [f"# {escape(self.title)}", f"{escape(self.setting())}."]
        if plot:
            parts.append(f"![{escape(self.title)}]({plot})")
        for each in self.sections():
            cells = [[escape(cell) for cell in line] for line in each.cells]
            parts += [f"## {each.title}", table([escape(h) for h in each.headers], cells, each.left)]
            parts += [escape(note) for note in each.notes]
        parts += ["## What the columns mean", bullets(self.meanings())]
        parts += ["## Environment", bullets(self._environment())]
        parts += ["## Repeat it", code(str(self.record["command"]))]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> Path:
        """Writes the plot and then the page that shows it, each whole or not at all, and returns the page's path.

        Raises:
            InputError: the folder cannot be written.
        """
        path, plot = folder / f"{self.stem}.md", folder / f"{self.stem}.png"
        figure = self.figure() if installed("matplotlib") else None
        if figure is not None:
            write_atomic(plot, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))
        else:
            plot.unlink(missing_ok=True)
        text = self.text("" if figure is None else plot.name)
        write_atomic(path, lambda file: file.write(text.encode()))
        return path

    def _environment(self) -> list[tuple[str, str]]:
        where = self.record["environment"]
        titles = {"compute_capability": "compute capability", "gpu_driver": "driver", "cuda": "CUDA"}
        versions = [f"{title} {where[name]}" for name, title in titles.items() if where.get(name)]
        gpu = ", ".join([where["gpu"], numerals.size(where["gpu_memory_bytes"]), *versions]) if where.get("gpu") else ""
        return [
            ("Processor", f"{where['cpu']}, {where['cpu_capability']}"),
            ("GPU", gpu),  # left out where there is none
            ("Threads", str(where["threads"])),
            ("Platform", str(where["platform"])),
            ("Python", str(where["python"])),
            ("torch", str(where["torch"])),
            ("embpress", str(where["embpress"])),
            ("Backend", ", ".join(f"{op}: {name}" for op, name in self.record["backend"].items())),
            ("Run", str(self.record["created"])),
        ]
