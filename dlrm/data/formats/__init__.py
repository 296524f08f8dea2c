"""Formats of click data, one file each: what a format says of itself, importable without torch and polars."""

from __future__ import annotations

from embpress.dlrm.data.formats.base import Format
from embpress.dlrm.members import members


def formats() -> dict[str, type[Format]]:
    """The formats of this folder by name."""
    return members(__name__, Format)
