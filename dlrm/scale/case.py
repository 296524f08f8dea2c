"""A published case: what the calculator is asked, and what a paper says of the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embpress.dlrm.scale.answer import Answer
from embpress.kernels import found

Answers = Sequence[Answer]
_HOME = "embpress.dlrm.scale.cases"


@dataclass(frozen=True)
class Claim:
    """One number of a paper.

    Attributes:
        what: it is.
        paper: as the paper says it.
        ours: what the calculator says, from its answers.
    """

    what: str
    paper: str
    ours: Callable[[Answers], str]


@dataclass(frozen=True)
class Case:
    """A case.

    Attributes:
        title: of its page.
        options: of `embpress scale`, as typed.
        source: the paper, with section and figure.
        claims: its numbers.
        note: what was assumed, and what the comparison says; plain sentences.
    """

    title: str
    options: str
    source: str
    claims: Sequence[Claim]
    note: str


def cases() -> list[str]:
    """Names of the files of the folder `cases`, with `-` for `_`."""
    return [name.replace("_", "-") for name in found.names(_HOME)]


def case(name: str) -> Case:
    """The case of this name.

    Raises:
        InputError: there is none.
    """
    from embpress.compressors.errors import InputError, nearest

    if name not in cases():
        raise InputError(f"there is no case {name!r}{nearest(name, cases())}")
    made: Case = found.modules(_HOME)[name.replace("-", "_")].CASE
    return made
