"""Drawing and writing plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from embpress.dlrm.runs.store import clean, write_atomic
from embpress.reports.plotting.fonts import families
from embpress.reports.plotting.style import DPI


def save_all(folder: Path, plots: Mapping[str, Callable[[], Figure | None]]) -> list[str]:
    """Writes each plot whole or not at all; where there is none, an earlier one of that name is taken away.

    Args:
        folder: fig where it is not there.
        plots: what draws a figure, by file name.

    Returns:
        The file names of the plots that there are.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    clean(folder)
    written = []
    with matplotlib.rc_context({"font.family": families()}):
        for name, draw in plots.items():
            fig = draw()
            if fig is None:
                (folder / name).unlink(missing_ok=True)
                continue
            write_atomic(folder / name, partial(fig.savefig, format="png", dpi=DPI, metadata={"Software": None}))
            written.append(name)
    return written
