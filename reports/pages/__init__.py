"""Further pages of a report, one folder each.

The folder's `__init__` says `TITLE` and `ABOUT`, one sentence, and imports nothing. Its `page` has
`make(plots, runs)`, which draws into the folder `plots` and gives the page's markdown, and may have `lacks(runs)`, why
there would be nothing on it (empty where there is something). A page's name is its folder's, with hyphens.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from embpress.compressors.errors import InputError, nearest, require
from embpress.kernels import found

if TYPE_CHECKING:
    from embpress.dlrm.runs.record import Run


def page_names() -> list[str]:
    """Names of the pages that a report may have besides itself."""
    return [name.replace("_", "-") for name in found.names(__name__)]


def about(name: str) -> tuple[str, str]:
    """Title of a page and a sentence on what it tells.

    Raises:
        InputError: there is no such page.
    """
    if name not in page_names():
        raise InputError(f"no page {name!r}{nearest(name, page_names())}")
    folder = import_module(f"{__name__}.{name.replace('-', '_')}")
    return folder.TITLE, folder.ABOUT


def load_page(name: str) -> ModuleType:
    """The page of that name, with `make` and perhaps `lacks`.

    Raises:
        InputError: there is no such page, or no matplotlib to draw it with.
    """
    about(name)
    require("matplotlib", f"the page {name}")
    return import_module(f"{__name__}.{name.replace('-', '_')}.page")


def lacks(name: str, runs: Sequence[Run]) -> str:
    """Why a page of these runs would be empty; empty where it would not. Raises what `load_page` does."""
    reason = getattr(load_page(name), "lacks", None)
    return reason(runs) if reason else ""
