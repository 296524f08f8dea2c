"""The one exception for mistakes in what a user gave: a file, a column, a knob, a budget."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable

from embpress.kernels.errors import EmbpressError


class InputError(EmbpressError, ValueError):
    """Something the user gave is wrong; the message is one sentence that names it, its place and what would be right.

    The command line prints the message alone and exits with status 2.
    """


class BudgetError(InputError):
    """A table, or a model, cannot be made as small as asked.

    Attributes:
        smallest: the smallest reachable size, in bytes.
    """

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest

    def __reduce__(self) -> tuple[type[BudgetError], tuple[str, int]]:
        return type(self), (str(self), self.smallest)


def reachable_ratio(smallest: int, full_bytes: int) -> float:
    """The ratio that `smallest` bytes are, rounded down to a tenth: the ratio named must itself be reachable."""
    return int(full_bytes / smallest * 10) / 10


def installed(package: str) -> bool:
    """Whether a package imports here."""
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def require(package: str, what: str) -> None:
    """Raises InputError where a package that `what` cannot do without does not import here."""
    if not installed(package):
        raise InputError(
            f"{what} needs the Python package {package}, which does not import here: pip install {package}"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: `"; did you mean 'tt'?"`, or the list of known names where none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
