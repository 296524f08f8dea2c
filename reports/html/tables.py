"""Cells of a markdown table as what they are sorted by."""

from __future__ import annotations

import re

_UNITS = {
    **{"": 1.0, "%": 0.01, "×": 1.0, "/s": 1.0},
    **{"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12},
    **{"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0},
}
_NUMBER = re.compile(
    r"([+−-]?)(\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*("
    + "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))
    + r")(?![\w/])"
)
_EMPTY = {"", "–", "—", "-"}


def sort_value(text: str) -> float | None:
    """The number at the start of a cell such as `−0.0155 ± 0.0010`, `174.2 kB †` or `2 of 3`; None where there is none.

    Bytes are in bytes, times in seconds, shares of one.
    """
    found = _NUMBER.match(text.strip())
    if found is None:
        return None
    sign, digits, unit = found.groups()
    value = float(digits.replace(",", "")) * _UNITS[unit]
    return -value if sign in ("-", "−") else value


def is_number_column(cells: list[str]) -> bool:
    """Whether a column holds numbers: each cell starts with one or is empty, and one is not."""
    told = [cell for cell in cells if cell.strip() not in _EMPTY]
    return bool(told) and all(sort_value(cell) is not None for cell in told)
