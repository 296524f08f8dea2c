"""TT-Rec's page: one table, its cache, latency, memory, and whole models."""

from __future__ import annotations

from typing import Any

from embpress.reports import numerals
from embpress.reports.bench import page
from embpress.reports.bench.cells import (
    BASELINE,
    OURS,
    QUARTILES,
    RATIO,
    REPEATS,
    Column,
    Row,
    Section,
    difference,
    of_peak,
    section,
    size,
    slower,
    time,
)

_ROWS: Column = ("rows", lambda row: f"{row['setting']['rows']:,}" if row["setting"] else numerals.MISSING)


class Page(page.Page):
    """Tables by what is measured, and a plot."""

    title = "TT-Rec's op against its baselines"

    def sections(self) -> list[Section]:
        """The tables, those without rows left out."""
        chosen, memory = self.record["size"], self.of("memory")
        usual = (
            f"Unless the name says otherwise: {chosen['rows']:,} rows of width {chosen['dim']}, 3 cores, rank 32, "
            f"batch {chosen['batch']:,} (pool: {chosen['bags']:,} bags), uniform ids, float32."
        )
        terabyte = [row for row in memory if row["name"] == "terabyte"]
        on_gpu = any("peak_device_bytes" in row["figures"] for row in terabyte)
        return [
            *section(
                "Training step of one table (forward + backward)",
                self.of("op"),
                [OURS, BASELINE, RATIO, QUARTILES, ("of peak", of_peak), REPEATS],
                [
                    usual,
                    "of peak: share of a square matrix product's speed in the same repeats that the needed operations "
                    f"ran at (3 × forward of the distinct ids).{self._peak()}",
                ],
            ),
            *section(
                "Cache: share of the lookups that hit it, forward + backward",
                self.of("cache"),
                [OURS, BASELINE, RATIO, QUARTILES, REPEATS],
                [usual],
            ),
            *section(
                "Lookup latency, folded, without autograd",
                self.of("latency"),
                [OURS, BASELINE, ("ours − baseline", difference), RATIO, QUARTILES, REPEATS],
                ["Rank 16, uniform ids."],
            ),
            *section(
                "Memory of a training step",
                [row for row in memory if row["name"] != "terabyte"],
                [
                    _ROWS,
                    ("beyond gradients", size("extra_bytes")),
                    ("cores' gradients", size("gradient_bytes")),
                    ("peak", size("peak_bytes")),
                    ("full table", size("full_bytes")),
                ],
                [
                    f"Rank 32, {chosen['batch']:,} lookups, forward + backward; peak: the bytes that torch's "
                    "allocator and the native ops held at once beyond those before the step."
                ],
                named=False,
            ),
            *section(
                "Criteo-Terabyte's 26 tables in one process",
                terabyte,
                [
                    _ROWS,
                    ("peak resident", size("resident_bytes")),
                    ("before", size("resident_before_bytes")),
                    *([("peak on the GPU", size("peak_device_bytes"))] if on_gpu else []),
                    ("ledger", size("ledger_bytes")),
                    ("MLPs", size("network_bytes")),
                    ("full tables", size("full_bytes")),
                    ("step", lambda row: time(row["ours_s"])),
                ],
                [
                    "MLPerf's DLRM, tables of ten thousand rows and more as tensor trains of rank 32, a few SGD steps "
                    "in a process of its own; ledger: training bytes of all tables; resident: in the host's memory; "
                    "before: Python and torch; MLPs: with gradients."
                ],
                named=False,
            ),
            *section(
                "Training step of DLRM (Kaggle model, 7 largest tables as tensor trains)",
                self.of("dlrm"),
                [OURS, BASELINE, RATIO, QUARTILES, ("step", slower), ("tables", size("serving_bytes")), REPEATS],
                [
                    "Forward, backward and SGD; the baseline are full tables; step: by how much it is longer than with "
                    "them; Zipf ids: exponent 1.05."
                ],
                named=False,
            ),
        ]

    def meanings(self) -> list[tuple[str, str]]:
        """What the columns mean, and what the baselines are."""
        return [
            *super().meanings(),
            (
                "torch.bmm",
                "the same rows from slices gathered by digit with index_select and multiplied by torch.bmm, with "
                "autograd's backward; each id by itself.",
            ),
            (
                "nn.EmbeddingBag",
                "the full table in float32, with sums and sparse gradients; no update of the rows is timed.",
            ),
            ("tensorly-torch", "FactorizedEmbedding with a block TT of the same shapes and values."),
        ]

    def figure(self) -> Any:
        """Ratios to the baselines, and how time and memory grow."""
        from embpress.reports.bench.tt_plot import bench_plot

        return bench_plot(self.rows)

    def _peak(self) -> str:
        speeds = sorted(row["figures"]["gemm_gflops"] for row in self.rows if _is_float32(row))
        return f" In float32 its median is {speeds[len(speeds) // 2]:,.0f} GFLOP/s." if speeds else ""


def _is_float32(row: Row) -> bool:
    return row["setting"].get("dtype") == "float32" and bool(row["figures"].get("gemm_gflops"))
