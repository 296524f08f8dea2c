"""What lies in a package's folders, found by being there: no list names it."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType


def names(package: str) -> list[str]:
    """Names of the modules and packages in a package's folders, sorted; none is imported, those with `_` are left out.

    Whoever adds a folder to the package's `__path__` adds what lies there.
    """
    path = importlib.import_module(package).__path__
    return sorted({entry.name for entry in pkgutil.iter_modules(path) if not entry.name.startswith("_")})


def modules(package: str, broken: dict[str, str] | None = None) -> dict[str, ModuleType]:
    """The modules by name, imported.

    Args:
        package: such as `embpress.dlrm.models`.
        broken: takes those that do not load, with the reason, while the others go on; a module in it is not tried
            again. Without it the first that does not load raises.
    """
    loaded = {}
    for name in names(package):
        if broken is None:
            loaded[name] = importlib.import_module(f"{package}.{name}")
        elif name not in broken:
            try:
                loaded[name] = importlib.import_module(f"{package}.{name}")
            except Exception as error:
                broken[name] = f"{type(error).__name__}: {error}"
    return loaded


def tree(package: str, name: str) -> ast.Module:
    """The source of a module as a tree; it is read and not imported. Empty where there is no source."""
    spec = importlib.util.find_spec(f"{package}.{name}")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else "")
