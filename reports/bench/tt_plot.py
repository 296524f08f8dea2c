"""The op benchmark in one picture: ratios to the baselines, and how time and memory grow."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from embpress.reports import numerals
from embpress.reports.bench.cells import Row
from embpress.reports.plotting.style import FAINT, TEXT, figure, tidy

_TT = "#0072B2"
_COLOURS = {
    "torch.bmm": "#D55E00",
    "tensorly-torch": "#CC79A7",
    "nn.EmbeddingBag": "#009E73",
    "recompute": "#E69F00",
    "full tables": "#56B4E9",
}


def bench_plot(rows: Sequence[Row]) -> Figure | None:
    """Bars of baseline / TT-Rec on the left, series on the right; None where nothing was timed."""
    bars = [row for row in rows if row["ratio"] is not None]
    panels = [draw for draw in (_batches, _pooling, _hit_rates, _memory) if draw(None, rows)]
    if not bars and not panels:
        return None
    height = max(0.9 + 0.27 * len(bars), 2.9 * len(panels), 2.6)
    drawn = figure(height, 11.0 if bars and panels else 6.5)
    columns = int(bool(bars)) + int(bool(panels))
    grid = drawn.add_gridspec(max(1, len(panels)), columns, width_ratios=[1.15, 1][:columns])
    if bars:
        _ratios(drawn.add_subplot(grid[:, 0]), bars)
    for i, draw in enumerate(panels):
        draw(drawn.add_subplot(grid[i, columns - 1]), rows)
    drawn.tight_layout(w_pad=2.5, h_pad=2.0)
    return drawn


def _ratios(axes: Axes, bars: Sequence[Row]) -> None:
    """One bar a case from 1 to baseline / TT-Rec, log scale, whiskers from quartile to quartile."""
    values = [row["ratio"] for row in bars]
    low, high = min(v["low"] for v in values), max(v["high"] for v in values)
    axes.set_xscale("log")
    low, high = min(low, 0.9), max(high, 1.1)
    room = (high / low) ** 0.28  # for the numbers beside the bars
    axes.set_xlim(low / (room if low < 0.9 else 1), high * (room if high > 1.1 else 1))
    named: set[str] = set()
    for i, (row, value) in enumerate(zip(bars, values)):
        colour = _COLOURS.get(row["baseline"], FAINT)
        label = row["baseline"] if row["baseline"] not in named else None
        named.add(row["baseline"])
        axes.barh(i, value["median"] - 1, left=1, height=0.62, color=colour, zorder=3, label=label)
        axes.plot([value["low"], value["high"]], [i, i], color="#333333", linewidth=1.3, zorder=4)
        right = value["median"] >= 1
        axes.annotate(
            f"{value['median']:.3g}×",
            (value["high"] if right else value["low"], i),
            (5 if right else -5, 0),
            textcoords="offset points",
            va="center",
            ha="left" if right else "right",
            fontsize=8.5,
            color=TEXT,
        )
    axes.axvline(1, color=TEXT, linewidth=1, zorder=5)
    axes.set_yticks(range(len(bars)), [str(row["name"]) for row in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    tidy(axes, "Baseline's time / TT-Rec's", "Right of 1 TT-Rec is faster; lines span the quartiles of the repeats")
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.035), ncols=3, frameon=False, fontsize=9)


def _series(rows: Sequence[Row], start: str) -> list[Row]:
    """The measured cases of a series; one point alone is no series."""
    points = [row for row in rows if row["name"].startswith(start) and row["ours_s"] is not None]
    return points if len(points) > 1 else []


def _batches(axes: Axes | None, rows: Sequence[Row]) -> bool:
    """Time of a lookup by batch size."""
    points = _series(rows, "batch-")
    if axes is not None:
        at = [row["setting"]["batch"] for row in points]
        _lines(axes, points, at, [1e6 / n for n in at], "µs a lookup")
        _powers(axes, at)
        tidy(axes, "", "Training step by batch size, rank 32")
        axes.set_xlabel("Batch", fontsize=9.5)
    return bool(points)


def _pooling(axes: Axes | None, rows: Sequence[Row]) -> bool:
    """Time of a bag by its length (TT-Rec, Figure 11)."""
    points = _series(rows, "pool-")
    if axes is not None:
        at = [row["setting"]["pooling"] for row in points]
        _lines(axes, points, at, [1e6 / row["setting"]["batch"] for row in points], "µs a sample")
        _powers(axes, at)
        tidy(axes, "", "Training step by lookups in a sample, rank 32")
        axes.set_xlabel("Pooling factor", fontsize=9.5)
    return bool(points)


def _hit_rates(axes: Axes | None, rows: Sequence[Row]) -> bool:
    """Time by the cache's hit rate (TT-Rec, Figure 12)."""
    points = _series(rows, "cache-")
    if axes is not None:
        at = [100 * row["setting"]["hits"] / row["setting"]["batch"] for row in points]
        _lines(axes, points, at, [1e3] * len(at), "ms")
        axes.set_xscale("linear")
        tidy(axes, "", "Training step by the cache's hit rate, rank 32")
        axes.set_xlabel("Hits, %", fontsize=9.5)
    return bool(points)


def _memory(axes: Axes | None, rows: Sequence[Row]) -> bool:
    """Bytes of a step by the rows of the table."""
    points = [row for row in rows if row["group"] == "memory" and "extra_bytes" in row["figures"]]
    if len(points) < 2:
        return False
    if axes is not None:
        at = [row["setting"]["rows"] for row in points]
        for name, label, colour, line in (
            ("full_bytes", "full table", _COLOURS["full tables"], "--"),
            ("gradient_bytes", "cores (and as much again: gradients)", FAINT, ":"),
            ("extra_bytes", "TT-Rec's step beyond them", _TT, "-"),
        ):
            axes.plot(at, [row["figures"][name] for row in points], line, color=colour, marker="o", ms=4, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: numerals.size(value).replace(".0", ""))
        axes.set_ylim(top=axes.get_ylim()[1] * 300)  # room for the legend
        axes.legend(frameon=False, fontsize=8.5, loc="upper left")
        axes.minorticks_off()
        tidy(axes, "", f"Memory by rows of the table, batch {points[0]['setting']['batch']:,}")
        axes.set_xlabel("Rows", fontsize=9.5)
    return True


def _lines(axes: Axes, points: Sequence[Row], at: Sequence[float], scale: Sequence[float], unit: str) -> None:
    """TT-Rec and the baseline of the series."""
    baseline = str(points[0]["baseline"])
    for name, label, colour, line in (
        ("ours_s", "TT-Rec", _TT, "-"),
        ("baseline_s", baseline, _COLOURS.get(baseline, FAINT), "--"),
    ):
        axes.plot(
            at, [row[name] * s for row, s in zip(points, scale)], line, color=colour, marker="o", ms=4, label=label
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(unit, fontsize=9.5)
    axes.legend(frameon=False, fontsize=9)


def _powers(axes: Axes, at: Sequence[int]) -> None:
    """The measured points as ticks."""
    axes.set_xticks(list(at), [f"{n // 1024}k" if n % 1024 == 0 else f"{n:,}" for n in at])
    axes.xaxis.set_minor_locator(NullLocator())
