"""What a folder holds: the classes of one kind, found by being there."""

from __future__ import annotations

import ast
from typing import TypeVar

from embpress.kernels import found

T = TypeVar("T")


def members(package: str, kind: type[T]) -> dict[str, type[T]]:
    """Classes of one kind that the modules of a package define, by their `name`, in the order of the names.

    Whoever adds a folder to the package's `__path__` adds its modules.

    Args:
        package: such as `embpress.dlrm.models`; all its modules are imported.
        kind: their base class. A subclass that sets no `name` of its own is none of them.
    """
    modules = found.modules(package).values()
    classes = [(module, value) for module in modules for value in vars(module).values() if isinstance(value, type)]
    named = {
        str(vars(cls)["name"]): cls
        for module, cls in classes
        if issubclass(cls, kind) and cls.__module__ == module.__name__ and "name" in vars(cls)
    }
    return dict(sorted(named.items()))


def written_forms(package: str) -> dict[str, str]:
    """How each member of a package is written and what it is, by the first line of its file: `` `form`: about. ``

    Files are read and not imported, `base` is left out.
    """
    docs = [ast.get_docstring(found.tree(package, name)) or "" for name in found.names(package) if name != "base"]
    texts = [doc.partition("\n")[0].rstrip(".") for doc in docs]
    return {form.strip("` "): about.strip() for form, _, about in (text.partition(": ") for text in texts)}
