"""Which suites there are, and what one says of itself.

A suite is a module of `embpress.dlrm.bench.suites`. Its name is the command's, the first line of its docstring says
what it measures, and it holds

    FULL, QUICK    sizes: a frozen dataclass of its own, and a small one for tests, whose numbers mean nothing
    cases(size, device)    the cases in their order, on a device; raises InputError for a size that makes no sense
    OPS    how the names of the ops begin that it measures; all where it is left out

Fields of the size that are made with `knob` are options of the command.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from fnmatch import fnmatchcase
from types import ModuleType
from typing import TYPE_CHECKING, Any

from embpress.kernels import found

if TYPE_CHECKING:
    from embpress.dlrm.bench.case import Case, Context, Row

_FOLDER = "embpress.dlrm.bench.suites"


def names() -> list[str]:
    """The suites, by what lies in the folder."""
    return found.names(_FOLDER)


def about(name: str) -> str:
    """The first line of a suite's docstring, read without importing it: it may import torch."""
    return (ast.get_docstring(found.tree(_FOLDER, name)) or name).splitlines()[0]


def load(name: str) -> ModuleType:
    """The suite's module."""
    return importlib.import_module(f"{_FOLDER}.{name}")


def knob(default: Any, help: str, kind: type | None = None) -> Any:
    """A field of a size that is an option of its command, too; `kind` is its type where the default is None."""
    return field(default=default, metadata={"help": help, "type": kind or type(default)})


def chosen(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """The cases whose names match one of the patterns (`*`, `?`, `[…]`), in their order; all without patterns.

    Raises:
        InputError: a pattern that fits no case.
    """
    from embpress.compressors.errors import InputError, nearest  # which imports torch

    known = [case.name for case in cases]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise InputError(f"no case {pattern!r}{nearest(pattern, known)}")
    return [case for case in cases if not patterns or any(fnmatchcase(case.name, p) for p in patterns)]


def run_cases(
    cases: Sequence[Case], context: Context, progress: Callable[[int, str], None] = lambda i, name: None
) -> Iterator[Row]:
    """A row a case, as each is done; `progress` is told the number and name of the case that starts."""
    from embpress.dlrm.bench.case import measured

    for i, case in enumerate(cases, 1):
        progress(i, case.name)
        yield measured(case, context)
