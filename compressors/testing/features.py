"""The table of features: what works in anybody's model with which method, from the checks as they ran."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from embpress.compressors.errors import InputError
from embpress.compressors.testing import suite
from embpress.compressors.testing.feature import NotApplicable, Refused, Use, first_sentence
from embpress.compressors.testing.subject import Subject, subject_of

START, END = "<!-- features -->", "<!-- end of features -->"
_PATH = re.compile(r"\(?/[^\s:)]+:\d+\)?[:,]?")  # of a file on this machine, with its line
_LONGEST = 160  # characters of a sentence


@dataclass(frozen=True)
class Outcome:
    """What became of one feature with one method: `yes`, `refused`, `no` or `–` where it does not apply; and why."""

    kind: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


def tried(check: object, method: str | Subject, collected: bool) -> Outcome:
    """One feature of one method, alone or in a collection."""
    silent = io.StringIO()  # torch's tracers print what they stumble over
    with warnings.catch_warnings(), redirect_stdout(silent), redirect_stderr(silent):
        warnings.simplefilter("ignore")
        try:
            check.tried(Use(subject_of(method), collected))  # type: ignore[attr-defined]
        except (Refused, InputError) as refusal:
            return Outcome("refused", _short(refusal))
        except NotApplicable as reason:
            return Outcome("–", _short(reason))
        except Exception as error:  # whatever falls over is what a user would see
            text = _short(error)
            return Outcome("no", text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}")
    return Outcome("yes")


def markdown(methods: Sequence[str], progress: Callable[[str], None] | None = None) -> str:
    """The table in markdown: one row a feature, one column a method; sentences stand below it, numbered.

    Where one table and a collection differ, both stand there.
    """
    notes: dict[str, int] = {}

    def cell(outcome: Outcome) -> str:
        if outcome.kind in ("yes", "–"):
            return outcome.kind
        return f"{outcome.kind} ({notes.setdefault(outcome.text, len(notes) + 1)})"

    rows = []
    for check in suite.FEATURES:
        title: str = check.title
        if progress:
            progress(title)
        row = [title]
        for method in methods:
            alone, collected = (cell(tried(check, method, each)) for each in (False, True))
            row.append(alone if collected in (alone, "–") else f"{alone} / {collected}")
        rows.append(row)
    header = ["Feature", *(f"`{method}`" for method in methods)]
    lines = [_line(header), _line(["---", *(":-:" for _ in methods)]), *map(_line, rows)]
    said = [f"{number}. {_escaped(text)}" for text, number in notes.items()]
    return "\n".join([*lines, "", *said]).rstrip() + "\n"


def columns(text: str) -> list[str]:
    """The methods of the table that stands between the marks in a text; none where there is no table."""
    header = between(text).strip().partition("\n")[0] if text else ""
    return [cell.strip().strip("`") for cell in header.strip("|").split("|")[1:]]


def between(text: str) -> str:
    """What stands between the marks.

    Raises:
        InputError: they are not there.
    """
    if START not in text or END not in text:
        raise InputError(f"there is no {START} … {END} to write the table between")
    return text.partition(START)[2].partition(END)[0]


def replaced(text: str, table: str) -> str:
    """The text with another table between the marks."""
    between(text)
    return f"{text.partition(START)[0]}{START}\n{table}{END}{text.partition(END)[2]}"


def _short(error: BaseException) -> str:
    text = " ".join(_PATH.sub("", first_sentence(error)).split())
    text = text.replace(": Tensor-likes are not close!", ": the values differ")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _escaped(text: str) -> str:
    return text.replace("*", r"\*").replace("<", r"\<").replace("_", r"\_")
