"""Tables, plots and markdown made from the records of runs.

from embpress.reports import load

frame = load("runs/kaggle")  # pandas, one row a run
"""

from importlib import import_module
from typing import Any

if __name__ != "embpress.reports":  # a bare `import reports` from the checkout would be a second copy
    raise ImportError("import embpress.reports (install the project first: make install)")

# where the public names are; pandas and torch are imported with the first of them
_PUBLIC = {
    "headline": "comparison.headline",
    "load": "comparison.frames",
    "page_names": "pages",
    "runs_frame": "comparison.frames",
    "summary_cells": "comparison.terminal",
    "to_csv": "comparison.frames",
    "to_json": "comparison.frames",
    "use_lines": "comparison.use",
    "write_report": "comparison.report",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"embpress.reports.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
