"""Where the runs of a comparison are made by several workers, one file each.

`--executor NAME[:…]` names one by its class's `name`. Help names what is in here, so it is imported without torch.
"""

from __future__ import annotations

from embpress.dlrm.executors.base import Executor
from embpress.dlrm.members import members, written_forms

__all__ = ["Executor", "executors", "forms", "parse"]


def executors() -> dict[str, type[Executor]]:
    """The executors of this folder by name."""
    return members(__name__, Executor)


def forms() -> dict[str, str]:
    """How each is written and what it is: see `written_forms`."""
    return written_forms(__name__)


def parse(text: str) -> Executor:
    """An executor as it is written: `local:4`, `ray`, `slurm:workers=8:partition=long`.

    Raises:
        InputError: no such executor, one that is written otherwise, or whose package is not installed.
    """
    from embpress.compressors.errors import InputError, nearest
    from embpress.compressors.guard import shown

    name, colon, argument = text.strip().partition(":")
    known = executors()
    if name not in known:
        raise InputError(f"there is no executor {shown(name)}{nearest(name, known)}")
    if colon and not argument:
        raise InputError(f"--executor {shown(text)} says nothing after its colon; it is written {known[name].form}")
    return known[name].of(argument)
