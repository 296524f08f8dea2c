"""Further pages of a report, one folder each.

The folder's `__init__` says `TITLE` and `ABOUT`, one sentence, and imports nothing. Its `page` has
`make(plots, runs)`, which draws into the folder `plots` and gives the page's markdown, and may have `lacks(runs)`, why
there would be nothing on it (empty where there is something). A page whose `OPTIONS` names options, such as `target`,
is given those that were set. A page's name is its folder's, with hyphens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

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


def lacks(name: str, runs: Sequence[Run], options: Mapping[str, Any] | None = None) -> str:
    """Why a page of these runs would be empty; empty where it would not. Raises what `load_page` does."""
    page = load_page(name)
    reason = getattr(page, "lacks", None)
    return reason(runs, **options_of(page, options)) if reason else ""


def taking(option: str) -> list[str]:
    """Names of the pages that take an option."""
    return [name for name in page_names() if option in getattr(load_page(name), "OPTIONS", ())]


def options_of(page: ModuleType, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of the options that were set those that a page takes."""
    known = getattr(page, "OPTIONS", ())
    return {name: value for name, value in (options or {}).items() if name in known and value is not None}
