"""Makes a package speak for the modules in its folder: what lies there is found, and no list names it."""

from __future__ import annotations

import sys
from types import ModuleType

from embpress.kernels import found


def gather(package: str) -> None:
    """Imports every module in the package's folder and gives the package their public functions and constants."""
    whole = sys.modules[package]
    for module in found.modules(package).values():
        for name, value in vars(module).items():
            imported = isinstance(value, ModuleType) or getattr(value, "__module__", module.__name__) != module.__name__
            if not name.startswith("_") and not imported:
                setattr(whole, name, value)
