"""Click data behind one interface."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "embpress.dlrm.data":  # a bare `import data` from the checkout would be a second copy
    raise ImportError("import embpress.dlrm.data (install the project first: make install)")

if TYPE_CHECKING:
    from embpress.dlrm.data.base import Bags, ClickData, Part
    from embpress.dlrm.data.loading import load, synthetic
    from embpress.dlrm.data.readers.synthetic import SyntheticSpec, rows_of
    from embpress.dlrm.data.summary import describe

__all__ = ["Bags", "ClickData", "Part", "SyntheticSpec", "describe", "load", "rows_of", "synthetic"]

_HOME = {
    "base": ("Bags", "ClickData", "Part"),
    "loading": ("load", "synthetic"),
    "readers.synthetic": ("SyntheticSpec", "rows_of"),
    "summary": ("describe",),
}


def __getattr__(name: str) -> Any:  # help is shown without torch and polars
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
