"""The page of a DLRM's training step: how many times as long as its MLPs' arithmetic alone it takes."""

from __future__ import annotations

from embpress.reports import numerals
from embpress.reports.bench import page
from embpress.reports.bench.cells import REPEATS, Row, Section, section, size, time, times


class Page(page.Page):
    """A row a method."""

    title = "Training step of a DLRM against its MLPs' arithmetic"

    def sections(self) -> list[Section]:
        """One table."""
        chosen = self.record["size"]
        gflops = sorted(row["figures"]["gemm_gflops"] for row in self.rows if row["status"] == "ok")
        speed = f"; sgemm's median is {gflops[len(gflops) // 2]:,.0f} GFLOP/s" if gflops else ""
        note = (
            f"{chosen['preset']} model, batch {chosen['batch_size']:,}, 26 tables of Criteo-Kaggle's sizes × "
            f"{chosen['scale']:g}, Zipf ids{', bfloat16 MLPs' if chosen['amp'] else ''}{speed}."
        )
        columns = [
            ("tables", size("serving_bytes")),
            ("step", lambda row: time(row["ours_s"])),
            ("arithmetic", lambda row: time(row["baseline_s"])),
            ("step / arithmetic", _of_arithmetic),
            REPEATS,
        ]
        return section("Forward, backward and optimizer", self.rows, columns, [note], named=False)

    def meanings(self) -> list[tuple[str, str]]:
        """What the columns mean."""
        return [
            ("step", "median time of a training step on batches in turn."),
            (
                "arithmetic",
                "the multiply-adds of the linear layers, forward and both backward products, at the speed of a square "
                "float32 matrix product, timed in turn with the step.",
            ),
            ("step / arithmetic", "taken in each repeat by itself, then the median; n is the number of repeats."),
        ]


def _of_arithmetic(row: Row) -> str:
    return numerals.MISSING if row["ratio"] is None else times(1 / row["ratio"]["median"])
