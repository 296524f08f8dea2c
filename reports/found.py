"""Members of a folder, found by being there: plots, pages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def member_names(package: ModuleType) -> list[str]:
    """Names of the modules in a package's folders, in alphabetical order; nothing is imported."""
    return sorted({found.name for found in iter_modules(package.__path__) if not found.name.startswith("_")})


def members(package: ModuleType, names: Sequence[str] | None = None) -> dict[str, ModuleType]:
    """The modules by name, imported: all, or those named."""
    wanted = member_names(package) if names is None else names
    return {name: import_module(f"{package.__name__}.{name}") for name in wanted}
