"""Doors for what a user gives as text: whole numbers of any length, and paths."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex

from embpress.compressors.errors import InputError

INT64_MAX = 2**63 - 1
_SHOWN = 60  # characters of a value that a message repeats


def shown(value: object) -> str:
    """A value as a message repeats it: quoted, on one line, cut where it is long, in characters that can be encoded."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a number of thousands of digits"
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().splitlines())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


def listed(names: Sequence[str]) -> str:
    """Names with commas between; of many the first twenty."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


def whole(value: object, name: str, minimum: int = 0, maximum: int = INT64_MAX) -> int:
    """A whole number from an integer of any kind, NumPy's too, or from text in decimal digits, of any length.

    Args:
        value: what was given.
        name: what the message calls it.
        minimum, maximum: what it may be, both included.

    Raises:
        InputError: no whole number, or out of range.
    """
    number = None
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        with contextlib.suppress(TypeError):  # such as a tensor that is no single integer
            number = operator.index(value)
    if isinstance(value, str):
        digits = value.strip().removeprefix("-").removeprefix("+")
        if digits.isascii() and digits.isdigit():
            number = int(value) if len(digits) <= 40 else (minimum - 1 if value.strip()[0] == "-" else maximum + 1)
    if number is not None and minimum <= number <= maximum:
        return number
    if maximum < INT64_MAX:
        allowed = f"between {minimum:,} and {maximum:,}"
    else:
        allowed = (
            f"of at least {minimum}" if number is None or number < minimum else f"of at least {minimum}, below 2**63"
        )
    raise InputError(f"{name} is {shown(value)}, but it must be a whole number {allowed}")


def path(value: str | Path, name: str) -> Path:
    """A path that a file system and a record can hold; nothing is looked up.

    Raises:
        InputError: no name, one that is not UTF-8, holds a zero character, or is longer than file systems take.
    """
    text = str(value)
    if not text:
        raise InputError(f"{name} is empty; give a path")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} {shown(text)} is not UTF-8; give a path of UTF-8 names") from None
    if "\0" in text:
        raise InputError(f"{name} {shown(text)} holds a zero character; give a path without one")
    if len(encoded) > 4000 or any(len(part.encode()) > 255 for part in Path(text).parts):
        raise InputError(f"{name} {shown(text)} is too long; a name may have 255 bytes and a path 4,000")
    return Path(text)


def counted(count: int, what: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def times(ratio: float) -> str:
    """A ratio as asked for: `16×`, `2.5×`, `1,000,000,000×`."""
    return f"{f'{ratio:,.1f}' if ratio >= 1e5 else f'{ratio:,.6g}'}×".replace(".0×", "×")
