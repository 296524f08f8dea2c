"""All plots of a report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from embpress.reports.comparison.plot_curves import learning_curves
from embpress.reports.comparison.plot_latency import lookup_latency
from embpress.reports.comparison.plot_size import auc_vs_size
from embpress.reports.plotting.style import save
from embpress.reports.summary import Summary

PLOTS: dict[str, Callable[[Sequence[Summary]], Figure | None]] = {
    "auc_vs_size.png": auc_vs_size,
    "learning_curves.png": learning_curves,
    "lookup_latency.png": lookup_latency,
}


def write_plots(folder: Path, rows: Sequence[Summary]) -> list[Path]:
    """Draw what there is data for; a plot of an earlier report that has none now is taken away."""
    return save_all(folder, {name: partial(draw, rows) for name, draw in PLOTS.items()})


def save_all(folder: Path, plots: Mapping[str, Callable[[], Figure | None]]) -> list[Path]:
    """Write each plot under its file name; where there is none, an earlier one of that name is taken away."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a method may be named in any script
        for name, draw in plots.items():
            made = draw()
            if made is None:
                (folder / name).unlink(missing_ok=True)
            else:
                written.append(save(made, folder / name))
    return written
