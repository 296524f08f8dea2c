"""embpress: shrink the embedding tables of recommendation models, and see what it costs.

    import embpress

    table = embpress.create("tt:rank=16", 1_000_000, 64)
    done = embpress.compress_model(model, "robe", ratio=100)

The checkout is the package: its folder `compressors/` is `embpress.compressors`, and so on.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# where the public names are; torch is imported with the first of them
_PUBLIC = {
    "TableCollection": "embpress.compressors",
    "compress_model": "embpress.compressors",
    "create": "embpress.compressors",
}
__all__ = ["TableCollection", "__version__", "compress_model", "create"]

try:
    __version__ = version("embpress")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
