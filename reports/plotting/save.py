"""Drawing and writing plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from embpress.dlrm.runs.store import clean, write_atomic
from embpress.reports.html.svg import to_svg
from embpress.reports.plotting.fonts import families
from embpress.reports.plotting.style import DPI

_VECTORS: ContextVar[dict[str, str] | None] = ContextVar("vectors", default=None)


@contextmanager
def vectors() -> Iterator[dict[str, str]]:
    """Collects each plot that `save_all` writes meanwhile, by folder and file name, as SVG to stand inside a page."""
    found: dict[str, str] = {}
    token = _VECTORS.set(found)
    try:
        yield found
    finally:
        _VECTORS.reset(token)


def save_all(folder: Path, plots: Mapping[str, Callable[[], Figure | None]]) -> list[str]:
    """Writes each plot whole or not at all; where there is none, an earlier one of that name is taken away.

    Args:
        folder: made where it is not there.
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
            if (found := _VECTORS.get()) is not None:
                found[f"{folder.name}/{name}"] = to_svg(fig, Path(name).stem.replace("_", "-"))
    return written
